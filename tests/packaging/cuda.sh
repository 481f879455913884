#!/usr/bin/env bash
# The library for GPUs as a user meets it, beside that for the CPU in one package: installed, found, linked and run where there is no driver, and
# with what stands in for one. Needs what run.sh needs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/checks.sh"
# As CMake names it: with another name what is in C would be compiled anew, and the library after it.
CC=$(command -v cc)
export CC
# Of a machine that has a GPU too.
export KLS_CUDA_DRIVER=/no/such/libcuda.so.1

# --- Installed by make and by CMake: the same tree

check 'make' bindings CUDA=1
check 'make install with DESTDIR, which needs no Rust any more' bindings install CUDA=1 PREFIX=/opt/kls DESTDIR="$work/stage" CARGO=false RUSTC=false
check 'cmake configures' cmake -S "$root/bindings-c" -B "$work/with cmake" -DKLSHAMPOO_CUDA=ON \
    -DKLSHAMPOO_CARGO_TARGET_DIR="$CARGO_TARGET_DIR" -DCMAKE_INSTALL_LIBDIR=lib
check 'cmake builds' cmake --build "$work/with cmake"
check 'cmake installs' cmake --install "$work/with cmake" --prefix "$work/by cmake"
check 'make and cmake install the same' diff -r --no-dereference "$work/stage/opt/kls" "$work/by cmake"

prefix=$work/moved/here
mkdir "$work/moved"
mv "$work/stage/opt/kls" "$prefix"
library klshampoo
library klshampoo_cuda
no_cuda_needed() { ! readelf -d "$prefix/lib/libklshampoo_cuda.so" | grep -iE 'NEEDED.*(libcu|nv)'; }
check 'no library of CUDA is linked' no_cuda_needed
headers() {
    local header
    for header in "$root"/include/*.h "$root"/bindings-c/include/*; do cmp "$header" "$prefix/include/${header##*/}"; done
    for header in "$root"/bindings-c/{flat,llmc}/*.h; do cmp "$header" "$prefix/include/klshampoo/${header##*/}"; done
}
check 'headers' headers
check 'licences' grep -q '^== cust ' "$prefix/share/doc/klshampoo/THIRD-PARTY_CUDA"

# --- Compilers and pkg-config

config() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" klshampoo-cuda; }
check 'pkg-config, version' [ "$(config --modversion)" = "$version" ]
static_libs=$(config --variable=static_libs)
# shellcheck disable=SC2046,SC2086 # one flag a word
for compiler in cc clang c++ clang++; do
    case $compiler in
        *++) language=(-std=c++17 "$here/program_cuda.cpp") ;;
        *) language=(-std=c99 "$here/program_cuda.c") ;;
    esac
    check "$compiler, static" "$compiler" "${strict[@]}" "${language[@]}" $(config --cflags) $static_libs -o "$work/program"
    check "$compiler, static, runs" runs klshampoo_cuda static "$work/program"
    check "$compiler, shared" "$compiler" "${strict[@]}" "${language[@]}" $(config --cflags --libs) -Wl,-rpath,"$prefix/lib" -o "$work/program"
    check "$compiler, shared, runs" runs klshampoo_cuda shared "$work/program"
done
# shellcheck disable=SC2046 # one flag a word
check 'nothing shared' cc -static "$here/program_cuda.c" $(config --static --cflags --libs) -o "$work/program"
check 'nothing shared, runs' runs klshampoo_cuda static "$work/program"

# --- With what stands in for a driver

mock() { # its path, as its build tells it
    (cd "$root" && env -u CC cargo build --quiet -p klshampoo-cuda-mock --message-format json) | sed -n 's/.*\["KLS_CUDA_MOCK","\([^"]*\)"\].*/\1/p'
}
driver=$(mock)
check 'there is a mock of the driver' [ -f "$driver" ]
check 'functions of the driver for it' cc -std=c11 -c "$root/cuda-kernels/tests/c/device.c" -o "$work/device.o"
for kind in static shared; do
    # shellcheck disable=SC2207,SC2206 # one flag a word
    case $kind in
        static) link=($static_libs) ;;
        shared) link=($(config --libs) -Wl,-rpath,"$prefix/lib") ;;
    esac
    check "training, $kind" c++ -std=c++17 "${strict[@]}" -I"$root/cuda-kernels/tests/cudart" -I"$prefix/include" \
        "$root/bindings-c/examples/least_squares_cuda.cpp" "$work/device.o" "${link[@]}" -ldl -o "$work/program"
    check "training, $kind, runs" env KLS_CUDA_DRIVER="$driver" "$work/program"
done

# --- Beside other libraries

# The driver's own functions, all that the library has forwarders of: in the program, and in a shared library.
sed -n 's/^CALL[0-9]*(\([A-Za-z0-9_]*\),.*/\1/p; s/^CALL0(\([A-Za-z0-9_]*\)).*/\1/p' "$root/cuda-kernels/shim/functions.h" >"$work/names"
printf '%s\n' cuGetErrorName cuGetErrorString >>"$work/names"
{
    echo 'int own_driver_calls;'
    sed 's/.*/int &(void) { own_driver_calls++; return 0; }/' "$work/names"
} >"$work/own_driver.c"
check 'all of them' [ "$(wc -l <"$work/names")" -gt 100 ]
# shellcheck disable=SC2086 # one flag a word
{
    check 'beside functions of the driver' cc -std=c99 "${strict[@]}" -DOWN_DRIVER "$here/program_cuda.c" -I"$prefix/include" -x c "$work/own_driver.c" \
        -x none $static_libs -o "$work/program"
    check 'beside functions of the driver, runs' "$work/program"
    check 'a library of the driver' cc -shared -fPIC "$work/own_driver.c" -o "$work/libcuda.so"
    check 'beside -lcuda' cc -std=c99 "${strict[@]}" -DOWN_DRIVER "$here/program_cuda.c" -I"$prefix/include" -Wl,--whole-archive ${static_libs%% *} \
        -Wl,--no-whole-archive ${static_libs#* } -L"$work" -lcuda -Wl,-rpath,"$work" -o "$work/program"
    check 'beside -lcuda, runs' "$work/program"
    refuses 'what cargo makes would collide' 'multiple definition of' cc "$here/program_cuda.c" -DOWN_DRIVER -I"$prefix/include" -x c \
        "$work/own_driver.c" -x none "$CARGO_TARGET_DIR/release/libklshampoo_cuda.a" ${static_libs#* } -o "$work/program"
}
other=$work/libneighbour.a
check 'another Rust library' rustc --edition 2024 -O --crate-type staticlib "$here/neighbour.rs" -o "$other"
# shellcheck disable=SC2086 # one flag a word
check 'two Rust libraries' cc -std=c99 "${strict[@]}" "$here/neighbour.c" -I"$prefix/include" -Wl,--whole-archive "${static_libs%% *}" "$other" \
    -Wl,--no-whole-archive -o "$work/program" -lgcc_s ${static_libs#* }
check 'two Rust libraries, run' "$work/program"

# What bindings-c/README.md says of both libraries in one program.
# shellcheck disable=SC2086 # one flag a word
{
    refuses 'both archives' 'multiple definition of' cc "$here/both.c" -I"$prefix/include" "$prefix/lib/libklshampoo.a" $static_libs -o "$work/program"
    check 'both archives, the larger one first' cc "$here/both.c" -I"$prefix/include" ${static_libs%% *} "$prefix/lib/libklshampoo.a" ${static_libs#* } \
        -o "$work/program"
    check 'both archives, the larger one first, runs' "$work/program"
    check 'both shared libraries' cc -DSHARED "$here/both.c" -I"$prefix/include" -L"$prefix/lib" -lklshampoo -lklshampoo_cuda -Wl,-rpath,"$prefix/lib" -o "$work/program"
    check 'both shared libraries, runs' "$work/program"
}

# --- CMake

configure() { # configure HOW ARGUMENT...
    rm -rf "$work/their project"
    cmake -S "$here/cmake" -B "$work/their project" -DHOW="$1" -DCUDA=ON "${@:2}"
}
user() { # user NAME HOW ARGUMENT...: a project configures, builds and runs
    local name=$1 language
    shift
    check "$name, configures" configure "$@"
    check "$name, builds" cmake --build "$work/their project"
    check "$name, runs" ctest --test-dir "$work/their project" --output-on-failure
    for language in c cpp; do
        check "$name, $language, linked as asked" eval "! needs_shared klshampoo_cuda '$work/their project/${language}_cuda_static' && \
            needs_shared klshampoo_cuda '$work/their project/${language}_cuda_shared'"
    done
}
found=(-DCMAKE_PREFIX_PATH="$prefix")
user 'find_package' find_package "${found[@]}" -DVERSION="$version" '-DCOMPONENTS=static;shared;cuda_static;cuda_shared'
user 'add_subdirectory' add_subdirectory -G Ninja -DSOURCES="$root" -DKLSHAMPOO_CUDA=ON -DKLSHAMPOO_CARGO_TARGET_DIR="$CARGO_TARGET_DIR"
for both in direct behind; do
    refuses "both libraries, $both" 'does not agree with the value of KLSHAMPOO_LIBRARY' configure find_package "${found[@]}" -DBOTH=$both
done

# --- Other folders, and the end

check 'make install with LIBDIR' bindings install CUDA=1 PREFIX=/usr DESTDIR="$work/multiarch" LIBDIR=/usr/lib/some-arch-gnu INCLUDEDIR=/usr/include/math
configured() { configure find_package -Dklshampoo_DIR="$work/multiarch/usr/lib/some-arch-gnu/cmake/klshampoo" '-DCOMPONENTS=cuda_static'; }
check 'find_package, LIBDIR' configured
uninstalled() {
    # Whether it was installed with CUDA=1 need not be said.
    bindings uninstall PREFIX=/usr DESTDIR="$work/multiarch" LIBDIR=/usr/lib/some-arch-gnu INCLUDEDIR=/usr/include/math &&
        [ -z "$(find "$work/multiarch" ! -type d)" ]
}
check 'make uninstall leaves nothing' uninstalled
check 'make dist' bindings dist CUDA=1
archive=$(ls "$work"/build/klshampoo-"$version"-*-cuda.tar.gz)
mkdir "$work/unpacked"
check 'unpacks' tar -xf "$archive" -C "$work/unpacked" --strip-components=1
check 'holds what is installed' diff -r --no-dereference "$prefix" "$work/unpacked"

printf '\n%s\n' 'bytes:'
stat -L -c '%10s %n' "$CARGO_TARGET_DIR"/release/libklshampoo_cuda.{a,so} "$prefix"/lib/libklshampoo_cuda.{a,so} "$archive"
printf '\n%d passed, 0 failed\n' "$passed"
