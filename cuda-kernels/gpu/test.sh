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
exec "$@"
END
chmod +x "$work/bin/compute-sanitizer"

# On what stands in for a driver everything runs.
PATH=$work/bin:$PATH OUT=$work/trial REQUIRE_GPU=1 SECTIONS=$sections "$work/run/run.sh" --trial > "$work/said" || { cat "$work/said" "$work"/trial/logs-*/*.log; exit 1; }
report=$(ls "$work"/trial/report-*.md)
expect trial "$report" '^\| tests: on_driver \| test result: ok\. [1-9]'
expect trial "$report" '^\| C: step \| ok '
expect trial "$report" '^\| graph capture: the C interface \| ok '
expect trial "$report" '^\| racecheck: steps \| test result: ok\. 1 passed'
expect trial "$report" '^\| initcheck: C: graphs \| ok '
expect trial "$report" '^## Steps, milliseconds'
expect trial "$report" '^\| trial \| klshampoo kl_shampoo \|'
expect trial "$report" '^\| trial \| klshampoo kl_shampoo TF32 cuBLAS \|'
expect trial "$report" '^\| 2 of 6x4 mode 1 \| cuBLAS bf16 \|'
expect trial "$report" '^Nothing failed; 0 skipped'

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
