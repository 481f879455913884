#!/bin/sh
# Builds the package for C and C++ and lays it out. The Makefile and CMakeLists.txt call this, so that there is one layout.
#
#   package.sh describe BUILD                            what the Rust compiler says of the target, once
#   package.sh build BUILD                               the libraries
#   package.sh lay BUILD PREFIX LIBDIR INCLUDEDIR        copies what has changed below PREFIX; LIBDIR and INCLUDEDIR are relative to it
#   package.sh remove BUILD PREFIX LIBDIR INCLUDEDIR     takes that away again
#   package.sh dist BUILD                                an archive of it for a machine without Rust, and its checksum
#
# Read from the environment: CARGO, RUSTC, CC, LD, OBJCOPY, AR, NM; CARGO_TARGET_DIR; CARGO_BUILD_TARGET to compile for another machine;
# KLSHAMPOO_CUDA=1 for the library for GPUs beside the other one; SOURCE_DATE_EPOCH, the time of the files in the archive.
set -eu
umask 022
export LC_ALL=C

die() {
    echo "package.sh: $*" >&2
    exit 1
}

[ $# -ge 2 ] || die 'COMMAND BUILD ...'
command=$1
mkdir -p "$2"
build=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
tab=$(printf '\t')
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
major=${version%%.*}
[ -n "$version" ] || die 'Cargo.toml has no version'
libraries=klshampoo
[ "${KLSHAMPOO_CUDA:-0}" = 0 ] || libraries='klshampoo klshampoo_cuda'

# The libraries that std needs, less the two that every compiler driver adds itself in the form that fits (-lgcc_s cannot be linked with -static).
describe() {
    [ ! -e "$build/facts" ] || return 0
    rustc=${RUSTC:-rustc}
    target=${CARGO_BUILD_TARGET:-$("$rustc" -vV | sed -n 's/^host: //p')}
    : >"$build/empty.rs"
    "$rustc" --target "$target" --crate-type staticlib --print native-static-libs="$build/native" -o "$build/empty.a" "$build/empty.rs"
    native=
    for flag in $(cat "$build/native"); do
        case $flag in
            -lgcc_s | -lc) ;;
            *) native="$native${native:+ }$flag" ;;
        esac
    done
    bits=$("$rustc" --target "$target" --print cfg | sed -n 's/^target_pointer_width="\(.*\)"$/\1/p')
    printf "target='%s'\nnative='%s'\npointer_bytes=%d\n" "$target" "$native" $((bits / 8)) >"$build/facts"
    rm "$build/empty.rs" "$build/empty.a" "$build/native"
}

names() { # names LIBRARY: what its files are called
    . "$build/facts"
    [ "${CARGO_BUILD_TARGET:-$target}" = "$target" ] || die "$build is for $target"
    library=$1
    case $library in
        klshampoo) crate=klshampoo-ffi cargo_name=klshampoo_ffi package=klshampoo prefix_of_targets= where= third_party=THIRD-PARTY ;;
        klshampoo_cuda)
            crate=klshampoo-cuda cargo_name=klshampoo_cuda package=klshampoo-cuda prefix_of_targets=cuda_ where=', on CUDA GPUs too'
            third_party=THIRD-PARTY_CUDA
            ;;
    esac
    case $target in
        *-apple-*)
            [ "$library" = klshampoo ] || die "no CUDA for $target"
            shared=lib$library.$version.dylib soname=lib$library.$major.dylib link=lib$library.dylib
            ;;
        *-windows-*) die "no package for $target" ;;
        *) shared=lib$library.so.$version soname=lib$library.so.$major link=lib$library.so ;;
    esac
    symbols=$root/include/$library.symbols
}

# One object of all that the exported functions reach, with no other global symbol: Rust's runtime in it cannot meet that of another Rust
# library in the program, nor what stands in it for CUDA's driver the driver's own functions. Section groups must go, since the linker would keep
# one of two such groups and leave ours without its own. Rust's names stay, for profilers;
# std's bitcode goes, since binutils hands it to any LLVM plugin, which aborts if it is older.
prelink() { # prelink ARCHIVE OBJECT
    linker=${LD:-$(command -v ld.bfd || echo ld)}
    # shellcheck disable=SC2046 # one option a word
    "$linker" -r --gc-sections --force-group-allocation $(sed 's/^/--undefined=/' "$symbols") -o "$build/all.o" "$1"
    "${OBJCOPY:-objcopy}" --wildcard --keep-global-symbols="$symbols" --strip-unneeded --keep-symbol='_[ZR]*' \
        --remove-section=.llvmbc --remove-section=.llvmcmd "$build/all.o" "$2"
    rm "$build/all.o"
    "${NM:-nm}" -g --defined-only -f posix "$2" | sed 's/ .*//' | sort >"$build/globals"
    cmp "$build/globals" "$symbols" || die "the library and include/$library.symbols disagree"
    rm "$build/globals"
}

build() {
    describe
    for each in $libraries; do
        names "$each"
        build_library
    done
}

build_library() {
    cargo=${CARGO:-cargo}
    target_dir=${CARGO_TARGET_DIR:-$root/target}
    (cd "$root" && "$cargo" build --release --locked -p "$crate" --target-dir "$target_dir" --message-format json-render-diagnostics) >"$build/messages"
    release=$target_dir/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release
    archive=$release/lib$cargo_name.a
    made=$build/lib$library.a
    if [ "$made" -nt "$archive" ] && [ "$made" -nt "$here/package.sh" ] && [ "$made" -nt "$symbols" ]; then
        return 0
    fi
    case $target in
        *-apple-*)
            # No prelinking here: the archive is as cargo makes it.
            cp "$release/lib$cargo_name.dylib" "$build/$shared"
            install_name_tool -id "@rpath/$soname" "$build/$shared"
            cp "$archive" "$build/new.a"
            ;;
        *)
            prelink "$archive" "$build/$library.o"
            # shellcheck disable=SC2086 # one flag a word
            "${CC:-cc}" -shared -o "$build/$shared" -Wl,-soname,"$soname" -Wl,-z,relro,-z,now,-z,defs -Wl,--gc-sections,--as-needed \
                "$build/$library.o" $native
            rm -f "$build/new.a"
            "${AR:-ar}" rcsD "$build/new.a" "$build/$library.o"
            rm "$build/$library.o"
            ;;
    esac
    licences >"$build/$third_party"
    # Last, since its age says that all is there.
    mv "$build/new.a" "$made"
}

licences() { # of the crates in the library
    echo "Besides klshampoo and the Rust standard library (MIT OR Apache-2.0) lib$library contains these crates."
    sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo.toml".*|\1|p' "$build/messages" | sort -u >"$build/crates"
    (cd "$root" && "$cargo" tree --locked -p "$crate" -e normal,no-proc-macro --target "$target" --prefix none --format '{p} {l}') |
        sed 's/ (\*)$//; s/ v/ /; /^klshampoo/d' | sort -u |
        while read -r name number licence; do
            printf '\n== %s %s: %s\n' "$name" "$number" "$licence"
            folder=$(grep -E "/$name(-$number)?\$" "$build/crates" | head -n 1)
            for text in "$folder"/LICEN[CS]E* "$folder"/COPYING*; do
                [ ! -f "$text" ] || { echo && cat "$text"; }
            done
        done
    rm "$build/crates"
}

up() { # the way from a folder below the prefix to the prefix
    printf '%s' "$1" | sed 's|[^/]\{1,\}|..|g'
}

fill() { # fill TEMPLATE FILE: the template's values, for a file below the prefix
    sed -e "s|@VERSION@|$version|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" -e "s|@UP@|$(up "${2%/*}")|g" \
        -e "s|@LIBRARY@|$library|g" -e "s|@PACKAGE@|$package|g" -e "s|@WHERE@|$where|g" \
        -e "s|@PREFIX@|$prefix_of_targets|g" -e "s|@SHARED@|$shared|g" -e "s|@SONAME@|$soname|g" -e "s|@NATIVE@|$native|g" \
        -e "s|@NATIVE_LIST@|$(echo "$native" | tr ' ' ';')|g" -e "s|@POINTER_BYTES@|$pointer_bytes|g" \
        "$here/cmake/$1.in" >"$build/filled/${2##*/}"
    item "$build/filled/${2##*/}" "$2"
}

item() { # a line of the manifest: a file and its place, or "-> TARGET" and the link's place
    printf '%s\t%s\n' "$1" "$2"
}

headers() { # headers FOLDER FILE...: those among the files that go with the libraries
    folder=$1
    shift
    for header in "$@"; do
        case ${header##*/}:$libraries in
            *_cuda*:klshampoo) ;;
            *) [ ! -f "$header" ] || item "$header" "$folder/${header##*/}" ;;
        esac
    done
}

# Everything that is installed. CMake lays the tree once before anything is built, to read the targets from it: then libraries are missing.
manifest() {
    mkdir -p "$build/filled"
    headers "$includedir" "$root"/include/*.h "$here"/include/*
    headers "$includedir/klshampoo" "$here"/flat/*.h "$here"/llmc/*.h
    for each in $libraries; do
        names "$each"
        fill klshampoo.pc "$libdir/pkgconfig/$package.pc"
        fill klshampooTargets.cmake "$libdir/cmake/klshampoo/${package}Targets.cmake"
        if [ -e "$build/lib$library.a" ] || [ "$command" = remove ]; then
            item "$build/$third_party" "share/doc/klshampoo/$third_party"
            item "$build/lib$library.a" "$libdir/lib$library.a"
            item "$build/$shared" "$libdir/$shared"
            item "-> $shared" "$libdir/$soname"
            item "-> $soname" "$libdir/$link"
        fi
    done
    fill klshampooConfig.cmake "$libdir/cmake/klshampoo/klshampooConfig.cmake"
    fill klshampooConfigVersion.cmake "$libdir/cmake/klshampoo/klshampooConfigVersion.cmake"
    for text in "$root/LICENSE-MIT" "$root/LICENSE-APACHE" "$root/SECURITY.md" "$here/README.md" "$here/EMBEDDED.md"; do
        item "$text" "share/doc/klshampoo/${text##*/}"
    done
}

place() { # place PREFIX LIBDIR INCLUDEDIR
    prefix=$1 libdir=$2 includedir=$3
    for folder in "$libdir" "$includedir"; do
        case $folder in
            /*) die "$folder is not below the prefix: the package finds its parts relative to it" ;;
        esac
    done
    describe
    names klshampoo
    # Whatever was installed.
    case $command:$target in
        remove:*-apple-*) ;;
        remove:*) libraries='klshampoo klshampoo_cuda' ;;
    esac
    manifest >"$build/manifest"
}

lay() {
    place "$@"
    while IFS=$tab read -r file to; do
        to=$prefix/$to
        mkdir -p "${to%/*}"
        case $file in
            '-> '*) ln -sf "${file#-> }" "$to" ;;
            *.so.* | *.dylib) cmp -s "$file" "$to" || install -m 755 "$file" "$to" ;;
            *) cmp -s "$file" "$to" || install -m 644 "$file" "$to" ;;
        esac
    done <"$build/manifest"
}

remove() {
    place "$@"
    while IFS=$tab read -r file to; do rm -f "$prefix/$to"; done <"$build/manifest"
    for folder in "$includedir/klshampoo" "$libdir/cmake/klshampoo" share/doc/klshampoo; do
        [ ! -d "$prefix/$folder" ] || rmdir "$prefix/$folder"
    done
}

dist() { # needs GNU tar
    names klshampoo
    name=klshampoo-$version-$target
    [ "$libraries" = klshampoo ] || name=$name-cuda
    rm -rf "$build/dist"
    lay "$build/dist/$name" lib include
    stamp=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
    tar --sort=name --mtime="@$stamp" --owner=0 --group=0 --numeric-owner --format=ustar -C "$build/dist" -I 'gzip -9n' -cf "$build/$name.tar.gz" "$name"
    (cd "$build" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
    rm -rf "$build/dist"
    echo "$build/$name.tar.gz"
}

shift 2
case $command in
    describe | build | dist) [ $# -eq 0 ] || die "$command BUILD" ;;
    lay | remove) [ $# -eq 3 ] || die "$command BUILD PREFIX LIBDIR INCLUDEDIR" ;;
    *) die "no command $command" ;;
esac
"$command" "$@"
