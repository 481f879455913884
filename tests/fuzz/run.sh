#!/usr/bin/env bash
# Replays the committed inputs of every target under AddressSanitizer, then fuzzes each target: run.sh [--seconds N] [--seed N] [TARGET...],
# 20 seconds and all of them by default, each time with other choices. With a seed and nothing in corpus/ the choices are the same each time. Fails on any finding, and where less than a fifth of a target's executions get to a successful step. What is
# found by the way stays in corpus/, which is not committed; an input that fails is left in artifacts/.
set -euo pipefail
cd "$(dirname "$0")"

seconds=20 seed=0
while [[ "${1:-}" = --* ]]; do
    case $1 in
        --seconds) seconds=$2 ;;
        --seed) seed=$2 ;;
        *) printf 'no such option: %s\n' "$1" >&2 && exit 2 ;;
    esac
    shift 2
done
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(calls checkpoint config gradients table)

command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz@0.13.2

# The stable compiler has what the sanitizer needs, behind the doors of the nightly one.
export RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0
# Tables that fit no machine are asked for, and must be refused when there is no memory for them.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1

cargo fuzz build --fuzz-dir .
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%-12s %12s %10s %12s %9s\n' target executions 'per second' 'with a step' share
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    status=0
    cargo fuzz run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- -seed="$seed" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 \
        -max_len=4096 -print_funcs=0 -print_final_stats=1 >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 100 "$log"
        # Again at the end, where it is not overlooked.
        grep -aE -A1 'panicked at|ERROR: |^SUMMARY|Test unit written' "$log" | cut -c1-200 >&2
        printf '\nFAILED: %s\n' "$target" >&2
        exit 1
    fi
    awk -v target="$target" '
        /^executions/ { executions = $2 + 0; stepped = $NF }
        /^stat::average_exec_per_sec/ { speed = $2 }
        END {
            if (executions == 0) { print "FAILED: " target " ran nothing"; exit 1 }
            printf "%-12s %12d %10d %12d %8.1f%%\n", target, executions, speed, stepped, 100 * stepped / executions
            if (5 * stepped < executions) { print "FAILED: less than a fifth of the executions of " target " get to a successful step"; exit 1 }
        }' "$log"
done
