#!/bin/bash
# That gpu/build.sh and gpu/run.sh do what they say, as far as that shows without a GPU. PYTHON: one that has torch makes the peers run too.
set -eu

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
MOCK=1 PROFILE=dev "$here/build.sh" "$work/run"

expect() { # what, file, extended regular expression
    grep -qE "$3" "$2" || { echo "$1: not found: $3"; cat "$2"; exit 1; }
}
refuse() { # what, file, extended regular expression
    ! grep -qE "$3" "$2" || { echo "$1: found: $3"; cat "$2"; exit 1; }
}
sections="tests c graph sanitizer benchmark"
if "${PYTHON:-python3}" -c 'import torch' 2> /dev/null; then
    sections="$sections peers"
else
    echo "SKIPPED: the peers: ${PYTHON:-python3} has no torch"
fi

# A sanitizer that finds nothing: what it is given must run.
mkdir "$work/bin"
cat > "$work/bin/compute-sanitizer" << 'END'
#!/bin/bash
[ "$1 $3 $4" = '--tool --error-exitcode 99' ] || exit 98
shift 4
"$@" || exit
echo '========= ERROR SUMMARY: 0 errors'
END
# One that refuses the device, with or without running what it is given.
mkdir "$work/refuses"
cat > "$work/refuses/compute-sanitizer" << 'END'
#!/bin/bash
echo '========= COMPUTE-SANITIZER'
echo '========= Error: Device not supported. Please refer to the documentation | "Supported Devices"'
[ "$2" = memcheck ] || exit 1
shift 4
exec "$@"
END
chmod +x "$work"/{bin,refuses}/compute-sanitizer

# On what stands in for a driver everything runs.
PATH=$work/bin:$PATH OUT=$work/trial REQUIRE_GPU=1 SECTIONS=$sections "$work/run/run.sh" --trial > "$work/said" || { cat "$work/said" "$work"/trial/logs-*/*.log; exit 1; }
report=$(ls "$work"/trial/report-*.md)
expect trial "$report" '^\| tests: on_driver \| test result: ok\. [1-9]'
expect trial "$report" '^\| tests: golden \| test result: ok\. [1-9]'
expect trial "$report" '^\| error of golden trajectories in f32: .* \| under 10x \| [0-9.]+x \| the run that is farthest off \| reached \|'
expect trial "$report" '^\| C: step \| ok '
expect trial "$report" '^\| graph capture: the C interface \| ok '
expect trial "$report" '^\| racecheck: steps \| test result: ok\. 1 passed'
expect trial "$report" '^\| initcheck: C: graphs \| ok '
expect trial "$report" '^## Steps, milliseconds'
expect trial "$report" '^\| trial \| klshampoo kl_shampoo \|'
for way in '' ' f32 cuBLAS' ' TF32 cuBLAS; refresh 3xTF32' ' bf16 cuBLAS; refresh 3xTF32' ' TF32 cuBLAS'; do
    expect trial "$report" "^\| trial \| klshampoo kl_shampoo$way \|"
done
expect trial "$report" '^- concurrent managed access: 1; kernels loaded in [0-9.]+ s'
expect trial "$report" '^\| initcheck: a kernel \| ok '
expect trial "$report" '^\| plain step of gpt2: share of the product rate \| at least 60 % \| \| not timed \| NOT MEASURED \|'
expect trial "$report" "^\| bandwidth of an elementwise kernel: share of the driver's copy \| at least 85 % \| [0-9.e+]+ % \| copy, "
expect trial "$report" '^\| 2 of 6x4 mode 1 \| cuBLAS bf16 \|'
expect trial "$report" '^Nothing failed; 0 skipped'

# Where the device has no managed memory for the host to touch, or the sanitizer refuses it, what needs that is not run; all else is.
refused() { # KLS_MOCK_MANAGED
    KLS_MOCK_MANAGED=$1 PATH=$work/refuses:$PATH OUT=$work/$1 REQUIRE_GPU=1 SECTIONS="tests c graph sanitizer" "$work/run/run.sh" --trial > "$work/said" ||
        { cat "$work/said"; exit 1; }
    expect "$1" "$work/said" "^\| tests: step \| NOT RUN: $2"
    expect "$1" "$work/said" "^\| graph capture: steps replayed \| NOT RUN: $2"
    expect "$1" "$work/said" '^\| tests: on_driver \| test result: ok\. [1-9]'
    expect "$1" "$work/said" '^\| tests: training \| test result: ok\. [1-9]'
    expect "$1" "$work/said" '^\| C: step \| ok '
    expect "$1" "$work/said" '^\| memcheck \| NOT RUN: status 0: Error: Device not supported'
    expect "$1" "$work/said" '^\| racecheck \| NOT RUN: status 1: Error: Device not supported'
    refuse "$1" "$work/said" 'memcheck: C:'
    expect "$1" "$work/said" '^Nothing failed; [1-9][0-9]* skipped or not run'
}
refused exclusive "the host cannot use this device's managed memory"
expect exclusive "$work/said" '^- concurrent managed access: 0'
refused none 'no 8192 MiB of managed memory: '

if KLS_GOLDEN=/no/such "$work/run/bin/golden" published_adamw > "$work/said" 2>&1; then
    echo "golden trajectories were read where there are none"
    exit 1
fi

# Without time the rest is named.
BENCHMARK_LIMIT=0 OUT=$work/late SECTIONS=benchmark "$work/run/run.sh" --trial > "$work/said"
expect late "$work/said" '^\| benchmark: trial \| ok, but OUT OF TIME: set trial not timed \|'

# What was reached, and what was not.
cat > "$work/reached.csv" << 'END'
section,of,who,what,value,unit
steps,gpt2,klshampoo kl_shampoo,amortised step,10,ms
steps,gpt2,klshampoo kl_shampoo TF32 cuBLAS; refresh 3xTF32,amortised step; graph,4,ms
steps,gpt2,heavyball SOAP; f32,amortised step,29,ms
rates,gpt2,products bf16,best product rate at this precision,600000,GFLOP/s
rates,gpt2,klshampoo kl_shampoo,share,0.61,ratio
refresh,gpt2,klshampoo kl_shampoo,all refreshes: the difference to a plain step,100,ms
refresh,gpt2,klshampoo kl_shampoo f32 cuBLAS,all refreshes: the difference to a plain step,150,ms
refresh,gpt2,torch.linalg.qr; f32,QR of all factors,600,ms
elementwise,1 floats,the driver's copy,bandwidth,3000,GB/s
elementwise,1 floats,copy,bandwidth,2500,GB/s
END
python3 "$work/run/report.py" "$work/reached.csv" > "$work/said"
expect reached "$work/said" '\| at least 3x \| 2\.9x \| klshampoo kl_shampoo: 10 ms; heavyball SOAP; f32: 29 ms \| NOT reached \|'
expect reached "$work/said" '\| at least 3x \| 7\.25x \| klshampoo kl_shampoo TF32 cuBLAS; refresh 3xTF32; graph: 4 ms; .* \| reached \|'
expect reached "$work/said" '\| under 5 % \| 0\.806 % \| klshampoo kl_shampoo: 10 of 1240 ms \| reached \|'
expect reached "$work/said" '\| at least 60 % \| 61 % \| klshampoo kl_shampoo \| reached \|'
expect reached "$work/said" '\| at least 5x \| 6x \| klshampoo kl_shampoo: 100 ms; .* \| reached \|'
expect reached "$work/said" '\| at least 5x \| 4x \| klshampoo kl_shampoo f32 cuBLAS: 150 ms; .* \| NOT reached \|'
expect reached "$work/said" '\| at least 20x \| \| not timed \| NOT MEASURED \|'
expect reached "$work/said" '\| at least 85 % \| 83\.3 % \| copy, 1 floats \| NOT reached \|'

# Without a driver everything says so.
export KLS_CUDA_DRIVER=/no/such/libcuda.so.1
OUT=$work/skipped SECTIONS="tests c benchmark peers" "$work/run/run.sh" > "$work/said"
expect skipped "$work/said" '^\| tests: step \| SKIPPED: no CUDA driver'
expect skipped "$work/said" '^\| C: graphs \| SKIPPED: no CUDA driver'
expect skipped "$work/said" '^\| benchmark: gpt2 \| SKIPPED: no CUDA driver'
expect skipped "$work/said" '^\| peers \| SKIPPED: no CUDA driver'
if OUT=$work/required REQUIRE_GPU=1 SECTIONS="tests benchmark" "$work/run/run.sh" > "$work/said"; then
    echo "REQUIRE_GPU=1 without one is no failure"
    exit 1
fi
expect required "$work/said" '^\| tests: on_driver \| FAILED'
expect required "$work/said" '^\| benchmark: kernels \| FAILED'

# Other files than those that were built are not run.
echo >> "$work/run/peers.py"
if OUT=$work/changed "$work/run/run.sh" > "$work/said" 2>&1; then
    echo "changed files were run"
    exit 1
fi
echo "gpu/test.sh: ok ($sections)"
