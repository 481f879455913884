#!/bin/bash
# Runs what gpu/build.sh has built on a machine with a GPU and writes one report: see README.md.
#
#     run.sh [--trial]
#
# REQUIRE_GPU=1   what cannot run for want of a GPU is a failure, not skipped
# OUT             folder of the report and of all logs (default: reports/ beside this file)
# SECTIONS        of: tests c sanitizer graph benchmark peers (default: all)
# SETS            of tensors, for benchmark and peers: "gpt2 c1000 a b c d e f" or some of them (default: all)
# LIMIT           seconds that no command may take longer than (default: each has a limit of its own)
# BENCHMARK_LIMIT seconds after which the benchmark of a set begins nothing more (default: four fifths of its limit)
# PYTHON          of the peers (default python3)
# --trial         everything small, on what stands in for a driver (build.sh with MOCK=1), the peers on the CPU
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
trial=0
case ${1:-} in
'') ;;
--trial) trial=1 ;;
*) sed -n '2,13p' "$0" >&2; exit 2 ;;
esac
sections=${SECTIONS:-tests c sanitizer graph benchmark peers}
for section in $sections; do
    case $section in
    tests | c | sanitizer | graph | benchmark | peers) ;;
    *) echo "SECTIONS: there is no $section" >&2; exit 2 ;;
    esac
done
[ -x "$here/bin/gpu_times" ] || { echo "$here/bin is missing: build with gpu/build.sh and run the run.sh that it has put beside it" >&2; exit 2; }
(cd "$here" && grep -E '^[0-9a-f]{64} ' MANIFEST | sha256sum --check --quiet) || { echo "these are not the files of the MANIFEST" >&2; exit 2; }

out=${OUT:-$here/reports}
stamp=$(date -u +%Y-%m-%dT%H%M%SZ)
logs=$out/logs-$stamp
mkdir -p "$logs" || exit 2
report=$out/report-$stamp.md
failed=0
skipped=0

# The device that the tests and the benchmark are to use.
export KLS_TEST_DEVICE=1 RUST_BACKTRACE=0
# What is worth keeping for the next run: kernels that went as PTX are compiled once for all programs; the peers' packages.
keep=$here/kept
{ mkdir -p "$keep" && [ -w "$keep" ]; } 2> /dev/null || keep=$logs
export CUDA_CACHE_PATH=$keep/cache CUDA_CACHE_MAXSIZE=1073741824
if [ $trial = 1 ]; then
    export KLS_CUDA_DRIVER=$here/lib/libkls_cuda_mock.so KLS_CUDA_BLAS=$here/lib/libkls_cuda_mock.so
    [ -f "$KLS_CUDA_DRIVER" ] || { echo "build.sh with MOCK=1 first" >&2; exit 2; }
fi
# A limit in seconds, and LIMIT.
capped() { if [ -z "${LIMIT:-}" ] || [ "$1" -le "$LIMIT" ]; then echo "$1"; else echo "$LIMIT"; fi; }

# One kernel. The first time the driver may have to compile them all.
probe=("$here/bin/gpu_times" --probe)
probed() { sed -n "s/^$1: //p" "$logs/probe.log"; }
if timeout -k 10 "$(capped 600)" "${probe[@]}" > "$logs/probe.log" 2> "$logs/device.log"; then
    has_gpu=1
    device=$(head -1 "$logs/probe.log")
    # Where the loader does not find one: that of a toolkit, or of PyTorch.
    if [ "$(probed cuBLAS)" = none ] && [ -z "${KLS_CUDA_BLAS:-}" ]; then
        packages=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2> /dev/null)
        for file in /usr/local/cuda*/lib64/libcublas.so.1[32] /usr/local/cuda*/targets/*/lib/libcublas.so.1[32] \
            ${packages:+"$packages"/nvidia/*/lib/libcublas.so.1[32]}; do
            [ -f "$file" ] && KLS_CUDA_BLAS=$file timeout -k 10 60 "${probe[@]}" 2> /dev/null | grep -qx 'cuBLAS: found' || continue
            export KLS_CUDA_BLAS=$file
            break
        done
    fi
else
    has_gpu=0
    device="none: $(tail -1 "$logs/device.log" | grep . || echo "no answer to $(basename "${probe[0]}") --probe within $(capped 600) s")"
fi

say() { printf '%s\n' "$*" | tee -a "$report"; }
wants() { case " $sections " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

say "# klshampoo on a GPU: $stamp"
say ""
[ $trial = 0 ] || say "A trial on what stands in for a driver: its times mean nothing."
say "- device: $device"
if [ $has_gpu = 1 ]; then
    say "- concurrent managed access: $(probed 'concurrent managed access'); $(grep '^kernels loaded' "$logs/probe.log")"
    say "- cuBLAS: ${KLS_CUDA_BLAS:-$(probed cuBLAS)}"
fi
say "- driver: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || echo 'nvidia-smi is not there')"
say "- CUDA toolkit: $(nvcc --version 2> /dev/null | tail -1 | grep . || echo 'no nvcc')"
say "- machine: $(uname -srm), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | sed 's/^ *//'), $(nproc) processors"
say "- command: REQUIRE_GPU=${REQUIRE_GPU:-0} SECTIONS=\"$sections\" SETS=\"${SETS:-}\" LIMIT=${LIMIT:-} run.sh $*"
sed -n '1,3s/^/- /p' "$here/MANIFEST" | tee -a "$report"
say ""
say "| what | result | seconds |"
say "|---|---|---:|"

# name, limit in seconds, command: its own limit, and its failure stops nothing else.
step() {
    local name=$1 limit=$2 log begin result status seconds late
    shift 2
    limit=$(capped "$limit")
    log=$logs/$(printf '%s' "$name" | tr -c 'A-Za-z0-9_\n' '-').log
    printf '+ %s\n' "$*" > "$log"
    begin=$(date +%s)
    timeout -k 10 "$limit" "$@" >> "$log" 2>&1
    status=$?
    seconds=$(($(date +%s) - begin))
    if grep -q '^SKIPPED: ' "$log"; then
        result=$(grep -m1 '^SKIPPED: ' "$log")
        skipped=$((skipped + 1))
    elif [ $status = 77 ] && grep -q '^NOT RUN: ' "$log"; then
        result=$(grep -m1 '^NOT RUN: ' "$log")
        skipped=$((skipped + 1))
    elif [ $status = 0 ]; then
        result=$(grep -E '^test result: ' "$log" | tail -1 | sed 's/; 0 ignored.*//')
        result=${result:-ok}
        late=$(grep -c '^OUT OF TIME: ' "$log")
        [ "$late" = 0 ] || result="$result, but OUT OF TIME: $(grep '^OUT OF TIME: ' "$log" | sed 's/^OUT OF TIME: not timed: //' | paste -sd, | sed 's/,/, /g') not timed"
    else
        result="FAILED: status $status"
        [ $status != 124 ] || result="FAILED: longer than $limit s"
        failed=1
        failures+=("$log")
    fi
    say "| $name | $result | $seconds |"
    return $status
}

not_run() { # what, why
    say "| $1 | NOT RUN: $2 | 0 |"
    skipped=$((skipped + 1))
}
# What a program that does not know of REQUIRE_GPU would do without one.
without_gpu() {
    if [ "${REQUIRE_GPU:-0}" != 0 ]; then
        say "| $1 | FAILED: no CUDA driver | 0 |"
        failed=1
    else
        say "| $1 | SKIPPED: no CUDA driver | 0 |"
        skipped=$((skipped + 1))
    fi
}
on_gpu() { # as step
    if [ $has_gpu = 1 ]; then step "$@"; else without_gpu "$1"; fi
}

failures=()
export KLS_TEST_FOLDER=$logs/files
mkdir -p "$KLS_TEST_FOLDER"

if wants tests; then
    suites="on_driver training linalg_products linalg_tensor linalg_factorisations linalg_refresh library io step"
    for suite in $suites; do step "tests: $suite" 900 "$here/bin/$suite"; done
    # Its runs say how far off they are.
    KLS_GOLDEN=$here/golden step "tests: golden" 900 "$here/bin/golden" --nocapture
    golden=$(sed -nE 's/^(.* )?(Published|Family) [^:]*: [0-9]+ runs, .* \(([0-9.]+) of the tolerance\).*/\3/p' "$logs/tests--golden.log" | sort -g | tail -1)
    [ -z "$golden" ] || printf 'section,of,who,what,value,unit\ngolden,all runs,klshampoo f32,largest share of what f32 is allowed,%s,ratio\n' "$golden" \
        > "$logs/table-golden.csv"
fi
if wants c; then
    while read -r name; do on_gpu "C: $name" 300 "$here/bin/c_tests" "$name"; done < "$here/c_tests.txt"
fi
if wants graph; then
    step "graph capture: steps replayed" 600 "$here/bin/step" replayed_steps_are_the_steps
    on_gpu "graph capture: the C interface" 300 "$here/bin/c_tests" graphs
fi
if wants sanitizer; then
    sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
    if [ -z "$sanitizer" ]; then
        not_run compute-sanitizer "it is not installed"
    elif [ $has_gpu = 0 ]; then
        without_gpu compute-sanitizer
    else
        for tool in memcheck racecheck initcheck; do
            sanitized=("$sanitizer" --tool $tool --error-exitcode 99)
            # A tool that refuses the device has not found anything in what it did not run.
            log=$logs/probe-$tool.log
            timeout -k 10 "$(capped 600)" "${sanitized[@]}" "${probe[@]}" > "$log" 2>&1
            status=$?
            if [ $status != 99 ] && ! { [ $status = 0 ] && grep -qx 'a kernel ran' "$log" && grep -q 'SUMMARY: 0 ' "$log"; }; then
                words=$(grep -E '^=+ ' "$log" | grep -vE 'COMPUTE-SANITIZER|SUMMARY' | head -3 | sed -E 's/^=+ *//' | paste -sd' ' | tr '|' '/')
                not_run "$tool" "status $status: ${words:-$(tail -1 "$log" | tr '|' '/')}"
                continue
            fi
            step "$tool: a kernel" 600 "${sanitized[@]}" "${probe[@]}"
            # Memory of the C tests is one block of the driver's for each buffer.
            for name in step formats skipping checkpoints graphs refreshes; do
                step "$tool: C: $name" 600 "${sanitized[@]}" "$here/bin/c_tests" "$name"
            done
            [ $tool = initcheck ] && continue # managed memory is written by the host
            step "$tool: products" 900 "${sanitized[@]}" "$here/bin/linalg_products"
            step "$tool: products on tensor cores" 900 "${sanitized[@]}" "$here/bin/linalg_tensor"
            step "$tool: steps" 900 "${sanitized[@]}" "$here/bin/step" kl_shampoo_of_a_matrix
        done
    fi
fi
if wants benchmark; then
    # The largest last: each set has a limit of its own.
    sets=${SETS:-c1000 a c d e f b gpt2} small=()
    [ $trial = 0 ] || sets=trial small=(--period 3 --rounds 1 --elements 5000 --sizes 8 --blas-from 1)
    # What is still to be begun after that is named and left out.
    within=(--limit "${BENCHMARK_LIMIT:-$(($(capped 900) * 4 / 5))}")
    on_gpu "benchmark: kernels" 300 "$here/bin/gpu_times" --sets none --csv "$logs/table-kernels.csv" ${small[@]+"${small[@]}"}
    for set in $sets; do
        on_gpu "benchmark: $set" 900 "$here/bin/gpu_times" --steps-only --precisions "${within[@]}" --sets "$set" --csv "$logs/table-$set.csv" ${small[@]+"${small[@]}"}
    done
fi

# A Python with torch that sees the GPU: the machine's own, or one in a virtual environment.
peers() {
    local python=${PYTHON:-python3} venv=$keep/venv kind=--system-site-packages log=$logs/pip.log package sees
    sees='import torch, sys; sys.exit(0 if torch.cuda.is_available() else 1)'
    [ $trial = 0 ] || sees='import torch'
    command -v "$python" > /dev/null || { echo "NO PEERS: there is no $python"; return 1; }
    if [ $trial = 0 ] || ! "$python" -c "$sees" 2> /dev/null; then
        "$python" -c "$sees" 2> /dev/null || kind=
        "$python" -m venv $kind "$venv" && python=$venv/bin/python
        [ -n "$kind" ] || timeout 600 "$python" -m pip install -r "$here/peers/requirements.txt" >> "$log" 2>&1 ||
            echo "NOT AVAILABLE: torch: pip failed: $(tail -1 "$log")"
        "$python" -c "import torch; print('torch==' + torch.__version__.split('+')[0])" > "$logs/constraint.txt" 2>> "$log"
        grep -E '^(heavyball|pytorch-optimizer)==' "$here/peers/requirements-peers.txt" | while read -r package; do
            timeout 120 "$python" -m pip install "$package" --constraint "$logs/constraint.txt" >> "$log" 2>&1 < /dev/null ||
                echo "NOT AVAILABLE: $package: pip failed: $(tail -1 "$log")"
        done
    fi
    local arguments=(--csv "$logs/table-peers.csv" --peers "fig13,heavyball,pytorch_optimizer,torch_adamw")
    [ -z "${SETS:-}" ] || arguments+=(--sets "${SETS// /,}")
    [ $trial = 0 ] || arguments+=(--device cpu --sets trial --rounds 1 --eager)
    "$python" -B "$here/peers.py" "${arguments[@]}"
}
if wants peers; then
    export -f peers
    export here logs keep trial
    on_gpu "peers" 3000 bash -c peers
fi

say ""
if wants tests || wants benchmark || wants peers; then
    shopt -s nullglob
    tables=("$logs"/table-*.csv)
    if [ ${#tables[@]} -gt 0 ]; then
        python3 "$here/report.py" "${tables[@]}" 2> "$logs/report.log" | tee -a "$report"
        # Without Python, the numbers as they are.
        if [ "${PIPESTATUS[0]}" != 0 ]; then
            say "The tables could not be joined: $(tail -1 "$logs/report.log")"
            for table in "${tables[@]}"; do say '```'; tee -a "$report" < "$table"; say '```'; done
        fi
    fi
    if [ -f "$logs/peers.log" ]; then
        missing=$(grep -E '^(NO PEERS|NOT AVAILABLE|FAILED|TOO SLOW)' "$logs/peers.log" | sort -u | sed 's/^/- /')
        say ""
        say "## Peers that are not in the tables"
        say ""
        say "${missing:-None.}"
    fi
fi
for log in ${failures[@]+"${failures[@]}"}; do
    say ""
    say "## $(basename "$log")"
    say '```'
    tail -n 40 "$log" | tee -a "$report"
    say '```'
done
say ""
if [ $failed = 1 ]; then say "**Something FAILED.**"; else say "Nothing failed; $skipped skipped or not run."; fi
echo "report: $report; logs: $logs"
exit $failed
