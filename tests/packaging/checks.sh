# What the packaging tests share: sourced by them, in Bash, after `here` and `root` are set.
set -euo pipefail
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

missing=()
for tool in ar c++ cargo cc clang clang++ cmake ctest ld.bfd make ninja nm objcopy pkg-config readelf rustc sha256sum tar; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "$0 needs: ${missing[*]}" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0

fail() {
    cat "$work/log" >&2
    echo "FAILED: $*" >&2
    exit 1
}

ok() {
    passed=$((passed + 1))
    echo "ok: $*"
}

check() { # check NAME COMMAND...: the command succeeds; one that is a function stops at its first failure
    local name=$1 status
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$work/log" 2>&1
    status=$?
    set -e
    [ $status -eq 0 ] || fail "$name"
    ok "$name"
}

refuses() { # refuses NAME TEXT COMMAND...: the command fails and says TEXT
    local name=$1 text=$2
    shift 2
    if "$@" >"$work/log" 2>&1; then fail "$name: it succeeded"; fi
    # CMake breaks lines.
    tr -s '\n ' ' ' <"$work/log" | grep -qF "$text" || fail "$name: no word of '$text'"
    ok "$name"
}

bindings() { make --no-print-directory -C "$root/bindings-c" BUILD="$work/build" "$@"; }

# --- Of an installed tree, at $prefix

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
strict=(-Wall -Wextra -Wpedantic -Werror)

soname() { readelf -d "$prefix/lib/lib$1.so.$version" | grep -qF "soname: [lib$1.so.${version%%.*}]"; }
links() {
    [ "$(readlink "$prefix/lib/lib$1.so")" = "lib$1.so.${version%%.*}" ] &&
        [ "$(readlink "$prefix/lib/lib$1.so.${version%%.*}")" = "lib$1.so.$version" ]
}
exports() { diff "$root/include/$1.symbols" <(nm -D --defined-only -f posix "$prefix/lib/lib$1.so" | sed 's/ .*//' | LC_ALL=C sort); }
globals() { diff "$root/include/$1.symbols" <(nm -g --defined-only -f posix "$prefix/lib/lib$1.a" | sed -n 's/ [A-Z] .*//p' | LC_ALL=C sort); }
groups() { ! readelf -g "$prefix/lib/lib$1.a" | grep -F 'COMDAT'; }
library() { # library NAME: its files are what they should be
    check "$1, soname" soname "$1"
    check "$1, names of the shared library" links "$1"
    check "$1, the shared library exports the committed list" exports "$1"
    check "$1, so does the static library" globals "$1"
    check "$1, no section group is left that another library could take the place of" groups "$1"
}

needs_shared() { readelf -d "$2" | grep -qF "[lib$1.so.${version%%.*}]"; }
runs() { # runs LIBRARY KIND PROGRAM: it runs, and is linked as it should be
    "$3"
    if [ "$2" = shared ]; then needs_shared "$1" "$3"; else ! needs_shared "$1" "$3"; fi
}
