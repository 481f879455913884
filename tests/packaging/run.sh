#!/usr/bin/env bash
# The package as a user meets it: installed in every way, moved, found in every way, linked and run; and the wrong tries.
# Needs the tools below, GNU/Linux, and no network once cargo has the crates. Installs into a temporary folder only.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/checks.sh"

# --- Installed by make and by CMake: the same tree

check 'make' bindings
check 'make install with DESTDIR, which needs no Rust any more' bindings install PREFIX=/opt/kls DESTDIR="$work/stage" CARGO=false RUSTC=false
check 'cmake configures' cmake -S "$root/bindings-c" -B "$work/with cmake" -DKLSHAMPOO_CARGO_TARGET_DIR="$CARGO_TARGET_DIR" -DCMAKE_INSTALL_LIBDIR=lib
check 'cmake builds' cmake --build "$work/with cmake"
check 'cmake installs' cmake --install "$work/with cmake" --prefix "$work/by cmake"
check 'make and cmake install the same' diff -r --no-dereference "$work/stage/opt/kls" "$work/by cmake"
before=$(stat -c %y "$work/with cmake/tree"/lib/libklshampoo.a)
check 'cmake builds again' cmake --build "$work/with cmake"
check 'and makes nothing anew' [ "$before" = "$(stat -c %y "$work/with cmake/tree"/lib/libklshampoo.a)" ]

# From here on the tree lies where nobody said that it would.
prefix=$work/moved/here
mkdir "$work/moved"
mv "$work/stage/opt/kls" "$prefix"

headers() {
    cmp "$root/include/klshampoo.h" "$prefix/include/klshampoo.h"
    local header
    for header in "$root"/bindings-c/include/*; do [[ ${header##*/} == *_cuda* ]] || cmp "$header" "$prefix/include/${header##*/}"; done
    for header in "$root"/bindings-c/{flat,llmc}/*.h; do [[ ${header##*/} == *_cuda* ]] || cmp "$header" "$prefix/include/klshampoo/${header##*/}"; done
}
without_cuda() { [ -z "$(find "$prefix" -iname '*cuda*')" ]; }
library klshampoo
check 'headers' headers
check 'nothing for GPUs' without_cuda
documents() {
    local document
    for document in LICENSE-MIT LICENSE-APACHE SECURITY.md; do cmp "$root/$document" "$prefix/share/doc/klshampoo/$document"; done
}
check 'documents' documents
check 'licences' grep -qF 'faer' "$prefix/share/doc/klshampoo/THIRD-PARTY"

# --- Plain compilers

native=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --variable=static_libs klshampoo | sed 's/^[^ ]* //')
check "README.md names the static library's flags" grep -F "libklshampoo.a $native " "$root/bindings-c/README.md"
for compiler in cc clang c++ clang++; do
    case $compiler in
        *++) language=(-std=c++17 "$here/program.cpp") ;;
        *) language=(-std=c99 "$here/program.c") ;;
    esac
    # shellcheck disable=SC2086 # one flag a word
    check "$compiler, static" "$compiler" "${strict[@]}" "${language[@]}" -I"$prefix/include" "$prefix/lib/libklshampoo.a" $native -o "$work/program"
    check "$compiler, static, runs" runs klshampoo static "$work/program"
    check "$compiler, shared" "$compiler" "${strict[@]}" "${language[@]}" -I"$prefix/include" -L"$prefix/lib" -lklshampoo \
        -Wl,-rpath,"$prefix/lib" -o "$work/program"
    check "$compiler, shared, runs" runs klshampoo shared "$work/program"
done

# --- pkg-config

config() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" klshampoo; }
check 'pkg-config, version' [ "$(config --modversion)" = "$version" ]
# shellcheck disable=SC2046 # one flag a word
{
    check 'pkg-config, shared' cc "$here/program.c" $(config --cflags --libs) -Wl,-rpath,"$(config --variable=libdir)" -o "$work/program"
    check 'pkg-config, shared, runs' runs klshampoo shared "$work/program"
    check 'pkg-config, static' c++ "$here/program.cpp" $(config --cflags) $(config --variable=static_libs) -o "$work/program"
    check 'pkg-config, static, runs' runs klshampoo static "$work/program"
    check 'pkg-config, nothing shared' cc -static "$here/program.c" $(config --static --cflags --libs) -o "$work/program"
    check 'pkg-config, nothing shared, runs' runs klshampoo static "$work/program"
}
refuses 'pkg-config, another version' "'klshampoo >= 99'" env PKG_CONFIG_PATH="$prefix/lib/pkgconfig" pkg-config --print-errors 'klshampoo >= 99'

# --- CMake

configure() { # configure HOW ARGUMENT...
    rm -rf "$work/their project"
    cmake -S "$here/cmake" -B "$work/their project" -DHOW="$1" "${@:2}"
}
user() { # user NAME HOW ARGUMENT...: a project configures, builds and runs
    local name=$1
    shift
    check "$name, configures" configure "$@"
    check "$name, builds" cmake --build "$work/their project"
    check "$name, runs" ctest --test-dir "$work/their project" --output-on-failure
    local language
    for language in c cpp; do
        check "$name, $language, linked as asked" eval "! needs_shared klshampoo '$work/their project/${language}_static' && needs_shared klshampoo '$work/their project/${language}_shared'"
    done
}
from_source=(-DSOURCES="$root" -DKLSHAMPOO_CARGO_TARGET_DIR="$CARGO_TARGET_DIR")
user 'find_package' find_package -DCMAKE_PREFIX_PATH="$prefix" -DVERSION="$version" '-DCOMPONENTS=static;shared'
user 'add_subdirectory' add_subdirectory "${from_source[@]}"
user 'FetchContent, Ninja' FetchContent -G Ninja "${from_source[@]}"
IFS=. read -r major minor patch <<<"$version"
for fits in "$major" "$major.$minor" "$version" "$major.0...$major.$((minor + 9))" "$major...$version"; do
    check "find_package, $fits fits $version" configure find_package -DCMAKE_PREFIX_PATH="$prefix" -DVERSION="$fits"
done
for wrong in $((major + 1)) "$major.$((minor + 1))" "$major.$minor.$((patch + 1))" "$major...<$version" "$major.$((minor + 1))...$((major + 1))"; do
    refuses "find_package, $wrong does not fit $version" 'compatible with requested version' configure find_package -DCMAKE_PREFIX_PATH="$prefix" -DVERSION="$wrong"
done
refuses 'find_package, no such component' 'klshampoo has no component cuda' configure find_package -DCMAKE_PREFIX_PATH="$prefix" -DCOMPONENTS=cuda
refuses 'find_package, nothing there' 'By not providing "Findklshampoo.cmake"' configure find_package

# --- Beside another Rust library

other=$work/libneighbour.a
check 'another Rust library' rustc --edition 2024 -O --crate-type staticlib "$here/neighbour.rs" -o "$other"
together() { # together KLSHAMPOO...: one program with both
    # shellcheck disable=SC2086 # one flag a word
    cc -std=c99 "${strict[@]}" "$here/neighbour.c" -I"$prefix/include" "$@" -o "$work/program" -lgcc_s $native
}
check 'two Rust libraries' together "$prefix/lib/libklshampoo.a" "$other"
both_panic() {
    "$work/program" 2>"$work/panics"
    cat "$work/panics"
    grep -qF 'neighbour.rs' "$work/panics"
    grep -qF 'std/src/sys/' "$work/panics"
}
check 'two Rust libraries, run' both_panic
check 'two Rust libraries, the other way round' together "$other" "$prefix/lib/libklshampoo.a"
check 'two Rust libraries, the other way round, run' env RUST_BACKTRACE=1 "$work/program"
check 'two Rust libraries, one shared' together "$other" -L"$prefix/lib" -lklshampoo -Wl,-rpath,"$prefix/lib"
check 'two Rust libraries, one shared, run' "$work/program"
whole() { together -Wl,--whole-archive "$1" "$other" -Wl,--no-whole-archive; }
check 'all of two Rust libraries' whole "$prefix/lib/libklshampoo.a"
check 'all of two Rust libraries, run' "$work/program"
refuses "what cargo makes would collide" 'multiple definition of' whole "$CARGO_TARGET_DIR/release/libklshampoo_ffi.a"

# --- Other folders

check 'make install with LIBDIR' bindings install PREFIX=/usr DESTDIR="$work/multiarch" LIBDIR=/usr/lib/some-arch-gnu INCLUDEDIR=/usr/include/math
elsewhere() { PKG_CONFIG_PATH=$work/multiarch/usr/lib/some-arch-gnu/pkgconfig pkg-config "$@" klshampoo; }
# shellcheck disable=SC2046 # one flag a word
check 'pkg-config, LIBDIR' cc "$here/program.c" $(elsewhere --cflags) $(elsewhere --variable=static_libs) -o "$work/program"
check 'pkg-config, LIBDIR, runs' runs klshampoo static "$work/program"
user 'find_package, LIBDIR' find_package -Dklshampoo_DIR="$work/multiarch/usr/lib/some-arch-gnu/cmake/klshampoo"
refuses 'LIBDIR outside PREFIX' 'not below the prefix' bindings install PREFIX=/usr DESTDIR="$work/nowhere" LIBDIR=/lib
uninstalled() { bindings uninstall PREFIX=/usr DESTDIR="$work/multiarch" LIBDIR=/usr/lib/some-arch-gnu INCLUDEDIR=/usr/include/math && [ -z "$(find "$work/multiarch" ! -type d)" ]; }
check 'make uninstall leaves nothing' uninstalled

# --- The archive for machines without Rust

check 'make dist' bindings dist
archive=$(ls "$work"/build/klshampoo-"$version"-*.tar.gz)
cp "$archive" "$work/first.tar.gz"
touch "$work/build/libklshampoo.a"
check 'make dist again' bindings dist
check 'the same bytes' cmp "$archive" "$work/first.tar.gz"
check 'checksum' env -C "$work/build" sha256sum --check "${archive##*/}.sha256"
mkdir "$work/unpacked"
check 'unpacks' tar -xf "$archive" -C "$work/unpacked" --strip-components=1
check 'holds what is installed' diff -r --no-dereference "$prefix" "$work/unpacked"
user 'the archive' find_package -DCMAKE_PREFIX_PATH="$work/unpacked"

printf '\n%s\n' 'bytes:'
stat -L -c '%10s %n' "$CARGO_TARGET_DIR"/release/libklshampoo_ffi.{a,so} "$prefix"/lib/libklshampoo.{a,so} "$archive"
printf '\n%d passed, 0 failed\n' "$passed"
