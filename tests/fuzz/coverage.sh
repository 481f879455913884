#!/usr/bin/env bash
# Line coverage of the C interface and the layout by the committed inputs, file by file: coverage.sh [FOLDER...], `seeds` by default. Needs
# llvm-profdata and llvm-cov of the version of LLVM that `rustc -vV` says; on Debian they are in the package llvm-VERSION.
set -euo pipefail
cd "$(dirname "$0")"

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tools=/usr/lib/llvm-$version/bin
[ -x "$tools/llvm-cov" ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "llvm-$version"; }

folders=("$@")
[ ${#folders[@]} -gt 0 ] || folders=(seeds)
build=target/coverage
RUSTFLAGS=-Cinstrument-coverage cargo build --quiet --example replay --target-dir "$build"
rm -rf "$build/profiles"
LLVM_PROFILE_FILE="$PWD/$build/profiles/%p.profraw" "$build/debug/examples/replay" "${folders[@]}"
"$tools/llvm-profdata" merge -o "$build/profile" "$build"/profiles/*.profraw
"$tools/llvm-cov" report --instr-profile "$build/profile" "$build/debug/examples/replay" ../../ffi/src ../../core/src/layout.rs |
    awk 'BEGIN { printf "%-40s %6s %6s %8s\n", "file", "lines", "missed", "covered" } /\.rs/ || /^TOTAL/ { printf "%-40s %6s %6s %8s\n", $1, $8, $9, $10 }'
