#!/usr/bin/env bash
# The headers and the C++ tests under every standard and compiler that they are for, each warning an error. Compiles only: links and runs
# nothing. Needs gcc and clang.
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in gcc g++ clang clang++; do
    command -v "$tool" >/dev/null || { echo "tests/c/header_matrix.sh needs $tool" >&2; exit 1; }
done

strict=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude -Ibindings-c/include)
gpu_tests=(-Itests/cpp -Icuda-kernels/tests/c)
static='#include <klshampoo_static.h>
KLS_STATIC_MEMORY(memory, KLS_MEMORY_BYTES(1, 1, 1, KLS_SOAP_STATE_16(3, 5), KLS_SOAP_SCRATCH(3, 5)));
void *where(void);
void *where(void) { return memory; }'
count=0

accepts() { # accepts COMMAND...: the compiler takes what comes in
    "$@" || { echo "FAILED: $*" >&2; exit 1; }
    count=$((count + 1))
}

for host in '' -DKLS_NO_HOST; do
    for compiler in gcc clang; do
        for standard in c99 c11 c17; do
            accepts "$compiler" -std="$standard" -x c $host "${strict[@]}" - <<<'#include <klshampoo.h>'
            accepts "$compiler" -std="$standard" -x c $host "${strict[@]}" - <<<"$static"
            accepts "$compiler" -std="$standard" -x c $host "${strict[@]}" - <<<'#include <klshampoo_cuda.h>'
        done
    done
    for compiler in g++ clang++; do
        for standard in c++11 c++17 c++20; do
            accepts "$compiler" -std="$standard" -x c++ $host "${strict[@]}" - <<<'#include <klshampoo.h>'
            accepts "$compiler" -std="$standard" -x c++ $host "${strict[@]}" - <<<"$static"
            accepts "$compiler" -std="$standard" -x c++ $host "${strict[@]}" - <<<'#include <klshampoo_cuda.h>'
        done
        for standard in c++17 c++20; do
            accepts "$compiler" -std="$standard" -x c++ $host "${strict[@]}" - <<<'#include <klshampoo.hpp>'
            accepts "$compiler" -std="$standard" -x c++ $host -DKLS_NO_EXCEPTIONS -fno-exceptions -fno-rtti "${strict[@]}" - \
                <<<'#include <klshampoo.hpp>'
        done
    done
done

# What is instantiated only where it is used.
for compiler in g++ clang++; do
    for test in cuda-kernels/tests/cpp/*.cpp; do
        case $test in
            */without_*) accepts "$compiler" -std=c++20 -fno-exceptions -fno-rtti "${strict[@]}" "${gpu_tests[@]}" "$test" ;;
            *) accepts "$compiler" -std=c++20 "${strict[@]}" "${gpu_tests[@]}" "$test" ;;
        esac
    done
    for standard in c++17 c++20; do
        accepts "$compiler" -std="$standard" -x c++ "${strict[@]}" - <<<'#include <klshampoo_cuda.hpp>'
        accepts "$compiler" -std="$standard" -x c++ -DKLS_NO_EXCEPTIONS -fno-exceptions -fno-rtti "${strict[@]}" - <<<'#include <klshampoo_cuda.hpp>'
        ! "$compiler" -std="$standard" -x c++ -DKLS_NO_HOST "${strict[@]}" - <<<'#include <klshampoo_cuda.hpp>' 2>/dev/null || {
            echo "FAILED: $compiler takes klshampoo_cuda.hpp without a host" >&2
            exit 1
        }
        for test in tests/cpp/*.cpp; do
            case $test in
                */without_*) accepts "$compiler" -std="$standard" -fno-exceptions -fno-rtti "${strict[@]}" "$test" ;;
                *) accepts "$compiler" -std="$standard" "${strict[@]}" "$test" ;;
            esac
        done
        # Without exceptions the macro is needed, and the header says so.
        ! "$compiler" -std="$standard" -x c++ -fno-exceptions "${strict[@]}" - <<<'#include <klshampoo.hpp>' 2>/dev/null || {
            echo "FAILED: $compiler takes klshampoo.hpp without exceptions and without KLS_NO_EXCEPTIONS" >&2
            exit 1
        }
    done
done
echo "$count compilations"
