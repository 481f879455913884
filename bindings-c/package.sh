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
# SOURCE_DATE_EPOCH, the time of the files in the archive.
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

names() { # what the libraries are called
    . "$build/facts"
    [ "${CARGO_BUILD_TARGET:-$target}" = "$target" ] || die "$build is for $target"
    case $target in
        *-apple-*) shared=libklshampoo.$version.dylib soname=libklshampoo.$major.dylib link=libklshampoo.dylib ;;
        *-windows-*) die "no package for $target" ;;
        *) shared=libklshampoo.so.$version soname=libklshampoo.so.$major link=libklshampoo.so ;;
    esac
}

# One object of all that the exported functions reach, with no other global symbol: Rust's runtime in it cannot meet that of another Rust
# library in the program. Section groups must go, since the linker would keep one of two such groups and leave ours without its own.
# Rust's names stay, for profilers; std's bitcode goes, since binutils hands it to any LLVM plugin, which aborts if it is older.
prelink() { # prelink ARCHIVE OBJECT
    linker=${LD:-$(command -v ld.bfd || echo ld)}
    # shellcheck disable=SC2046 # one option a word
    "$linker" -r --gc-sections --force-group-allocation $(sed 's/^/--undefined=/' "$root/include/klshampoo.symbols") -o "$build/all.o" "$1"
    "${OBJCOPY:-objcopy}" --wildcard --keep-global-symbols="$root/include/klshampoo.symbols" --strip-unneeded --keep-symbol='_[ZR]*' \
        --remove-section=.llvmbc --remove-section=.llvmcmd "$build/all.o" "$2"
    rm "$build/all.o"
    "${NM:-nm}" -g --defined-only -f posix "$2" | sed 's/ .*//' | sort >"$build/globals"
    cmp "$build/globals" "$root/include/klshampoo.symbols" || die 'the library and include/klshampoo.symbols disagree'
    rm "$build/globals"
}

build() {
    describe
    names
    cargo=${CARGO:-cargo}
    target_dir=${CARGO_TARGET_DIR:-$root/target}
    (cd "$root" && "$cargo" build --release --locked -p klshampoo-ffi --target-dir "$target_dir" --message-format json-render-diagnostics) >"$build/messages"
    release=$target_dir/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release
    archive=$release/libklshampoo_ffi.a
    made=$build/libklshampoo.a
    if [ "$made" -nt "$archive" ] && [ "$made" -nt "$here/package.sh" ] && [ "$made" -nt "$root/include/klshampoo.symbols" ]; then
        return 0
    fi
    case $target in
        *-apple-*)
            # No prelinking here: the archive is as cargo makes it.
            cp "$release/libklshampoo_ffi.dylib" "$build/$shared"
            install_name_tool -id "@rpath/$soname" "$build/$shared"
            cp "$archive" "$build/new.a"
            ;;
        *)
            prelink "$archive" "$build/klshampoo.o"
            # shellcheck disable=SC2086 # one flag a word
            "${CC:-cc}" -shared -o "$build/$shared" -Wl,-soname,"$soname" -Wl,-z,relro,-z,now,-z,defs -Wl,--gc-sections,--as-needed \
                "$build/klshampoo.o" $native
            rm -f "$build/new.a"
            "${AR:-ar}" rcsD "$build/new.a" "$build/klshampoo.o"
            rm "$build/klshampoo.o"
            ;;
    esac
    third_party >"$build/THIRD-PARTY"
    # Last, since its age says that all is there.
    mv "$build/new.a" "$build/libklshampoo.a"
}

third_party() { # the licences of the crates in the library
    echo 'Besides klshampoo and the Rust standard library (MIT OR Apache-2.0) the libraries contain these crates.'
    sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo.toml".*|\1|p' "$build/messages" | sort -u >"$build/crates"
    (cd "$root" && "$cargo" tree --locked -p klshampoo-ffi -e normal,no-proc-macro --target "$target" --prefix none --format '{p} {l}') |
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

fill() { # fill TEMPLATE FOLDER: the template's values, for a file that will lie in that folder below the prefix
    sed -e "s|@VERSION@|$version|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" -e "s|@UP@|$(up "$2")|g" \
        -e "s|@SHARED@|$shared|g" -e "s|@SONAME@|$soname|g" -e "s|@NATIVE@|$native|g" -e "s|@NATIVE_LIST@|$(echo "$native" | tr ' ' ';')|g" \
        -e "s|@POINTER_BYTES@|$pointer_bytes|g" "$here/cmake/$1.in" >"$build/filled/$1"
    item "$build/filled/$1" "$2/$1"
}

item() { # a line of the manifest: a file and its place, or "-> TARGET" and the link's place
    printf '%s\t%s\n' "$1" "$2"
}

# Everything that is installed. CMake lays the tree once before anything is built, to read the targets from it: then libraries are missing.
manifest() {
    mkdir -p "$build/filled"
    item "$root/include/klshampoo.h" "$includedir/klshampoo.h"
    for header in "$here"/include/*; do
        [ ! -f "$header" ] || item "$header" "$includedir/${header##*/}"
    done
    for header in "$here"/flat/*.h "$here"/llmc/*.h; do
        # What needs the library for the GPU is not installed, which has no package.
        [[ ! -f "$header" || "$header" == *_cuda.h ]] || item "$header" "$includedir/klshampoo/${header##*/}"
    done
    fill klshampoo.pc "$libdir/pkgconfig"
    fill klshampooConfig.cmake "$libdir/cmake/klshampoo"
    fill klshampooConfigVersion.cmake "$libdir/cmake/klshampoo"
    for text in "$root/LICENSE-MIT" "$root/LICENSE-APACHE" "$root/SECURITY.md" "$here/README.md" "$here/EMBEDDED.md"; do
        item "$text" "share/doc/klshampoo/${text##*/}"
    done
    if [ -e "$build/libklshampoo.a" ]; then
        item "$build/THIRD-PARTY" share/doc/klshampoo/THIRD-PARTY
        item "$build/libklshampoo.a" "$libdir/libklshampoo.a"
        item "$build/$shared" "$libdir/$shared"
        item "-> $shared" "$libdir/$soname"
        item "-> $soname" "$libdir/$link"
    fi
}

place() { # place PREFIX LIBDIR INCLUDEDIR
    prefix=$1 libdir=$2 includedir=$3
    for folder in "$libdir" "$includedir"; do
        case $folder in
            /*) die "$folder is not below the prefix: the package finds its parts relative to it" ;;
        esac
    done
    describe
    names
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
    names
    name=klshampoo-$version-$target
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
