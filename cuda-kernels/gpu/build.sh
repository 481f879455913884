#!/bin/sh
# Builds what gpu/run.sh runs on a machine with a GPU, where nothing of Rust need be, into one folder.
#
#     gpu/build.sh [FOLDER]        (default: target/gpu-run)
#
# PROFILE=dev builds with the tests' profile instead of release; JOBS: cargo's -j; NVCC: see ../build.rs (without one the kernels go as PTX);
# MOCK=1 carries what stands in for a driver too, for `run.sh --trial`.
set -eu

crate=$(cd "$(dirname "$0")/.." && pwd)
root=$(dirname "$crate")
target=${CARGO_TARGET_DIR:-$root/target}
out=${1:-$target/gpu-run}
limit=$((60 * 1024 * 1024))
case ${PROFILE:-release} in
release) profile=--release ;;
dev) profile= ;;
*) echo "PROFILE=$PROFILE: release or dev" >&2; exit 2 ;;
esac

cd "$root"
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
tests="io step linalg_products linalg_tensor linalg_factorisations linalg_refresh library golden on_driver training"
messages=$out/cargo.json
# shellcheck disable=SC2046,SC2086
cargo test -p klshampoo-cuda $profile ${JOBS:+-j$JOBS} --no-run --message-format=json-render-diagnostics \
    $(printf -- '--test %s ' $tests) > "$messages"
# shellcheck disable=SC2086
cargo build -p klshampoo-cuda $profile ${JOBS:+-j$JOBS} --message-format=json-render-diagnostics --example gpu_times >> "$messages"

# Lines of `kind name path`.
python3 - "$messages" > "$out/built.txt" <<'PYTHON'
import json, sys
for line in open(sys.argv[1]):
    message = json.loads(line) if line.startswith("{") else {}
    target = message.get("target", {})
    if message.get("executable"):
        print("program", target["name"], message["executable"])
    elif target.get("name") == "klshampoo_cuda":
        for name in message.get("filenames", []):
            if name.endswith("libklshampoo_cuda.so"):
                print("library", "klshampoo_cuda", name)
    for name, value in message.get("env", []):
        if name == "KLS_CUDA_MOCK":
            print("mock", "mock", value)
PYTHON
built() { awk -v kind="$1" -v name="$2" '$1 == kind && $2 == name { path = $3 } END { print path }' "$out/built.txt"; }
copy() { # from to
    [ -n "$1" ] && [ -f "$1" ] || { echo "$2 was not built" >&2; exit 1; }
    cp "$1" "$out/$2"
    strip --strip-unneeded "$out/$2"
}
for test in $tests gpu_times; do copy "$(built program "$test")" "bin/$test"; done
copy "$(built library klshampoo_cuda)" lib/libklshampoo_cuda.so
[ "${MOCK:-0}" = 0 ] || copy "$(built mock mock)" lib/libkls_cuda_mock.so
rm "$messages" "$out/built.txt"

# The C interface's tests, beside the shared library that they run with.
includes="-Iinclude -Ibindings-c/include -Ibindings-c/flat -Ibindings-c/llmc -Icuda-kernels/tests/c"
# shellcheck disable=SC2086
${CC:-cc} -std=c11 -O1 -g $includes cuda-kernels/tests/c/*.c -o "$out/bin/c_tests" -L"$out/lib" -lklshampoo_cuda -Wl,-rpath,'$ORIGIN/../lib' \
    -lm -lpthread -ldl
strip --strip-unneeded "$out/bin/c_tests"
# Those that need a device, as their header lists them.
sed -n '/Need a device/,/Need what stands in/s/^const char \*test_\([a-z0-9_]*\)(void);$/\1/p' cuda-kernels/tests/c/check.h > "$out/c_tests.txt"
[ -s "$out/c_tests.txt" ] || { echo "tests/c/check.h lists no tests that need a device" >&2; exit 1; }

cp cuda-kernels/gpu/run.sh cuda-kernels/gpu/peers.py cuda-kernels/gpu/report.py cuda-kernels/gpu/README.md "$out"
mkdir -p "$out/golden/family" "$out/peers/adapters"
cp tests/golden/*.json tests/golden/*.bin "$out/golden"
cp tests/golden/family/*.json tests/golden/family/*.bin "$out/golden/family"
cp tests/peers/*.py tests/peers/requirements*.txt "$out/peers"
cp tests/peers/adapters/*.py "$out/peers/adapters"

{
    echo "commit $(git rev-parse HEAD 2> /dev/null || echo unknown)$(git diff --quiet HEAD 2> /dev/null || echo ', changed')"
    echo "built $(date -u +%Y-%m-%dT%H:%M:%SZ) by $(rustc --version), profile ${PROFILE:-release}"
    if [ "${KLS_CUDA_PTX:-0}" = 0 ] && [ -n "${NVCC:-$(command -v nvcc || true)}" ]; then
        echo "kernels compiled by $("${NVCC:-nvcc}" --version | tail -1)"
    else
        echo "kernels as PTX"
    fi
    (cd "$out" && find . -type f ! -name MANIFEST | LC_ALL=C sort | xargs sha256sum)
} > "$out/MANIFEST"
bytes=$(du -sb "$out" | cut -f1)
echo "$out: $bytes bytes"
[ "$bytes" -le "$limit" ] || { echo "that is more than $limit" >&2; exit 1; }
