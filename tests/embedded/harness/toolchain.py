"""The tools: who has them, and which Rust compiles for a target."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .failure import Failure

# A command and Debian's package that has it.
TOOLS = {
    "cc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "arm-none-eabi-ld": "binutils-arm-none-eabi",
    "arm-none-eabi-nm": "binutils-arm-none-eabi",
    "make": "make",
    "node": "nodejs",
    "qemu-s390x": "qemu-user",
    "qemu-system-arm": "qemu-system-arm",
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
}
NEWLIB = "libnewlib-arm-none-eabi"
# A C library, and a file of it.
S390X_LIBC = "libc6-dev-s390x-cross"
S390X_FILE = Path("/usr/s390x-linux-gnu/lib/libc.a")
# Debian's Rust, which comes with the sources of the core library and so compiles it for every target.
DEBIAN_RUSTC = Path("/usr/bin/rustc")
DEBIAN_SOURCES = Path("/usr/lib/rustlib/src/rust/library/core")
DEBIAN_RUST = ("rustc-web", "cargo-web", "rust-web-src")
TARGETS = ("thumbv6m-none-eabi", "thumbv7em-none-eabihf", "thumbv8m.main-none-eabihf", "x86_64-unknown-none", "wasm32-unknown-unknown", "s390x-unknown-linux-gnu")


def _has_newlib() -> bool:
    if not shutil.which("arm-none-eabi-gcc"):
        return False
    found = subprocess.run(["arm-none-eabi-gcc", "--print-file-name=nano.specs"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return Path(found).is_absolute()


@cache
def _rustlib() -> Path:
    """Where the rustc on the path has what belongs to targets."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return Path(sysroot) / "lib" / "rustlib"


def _own_target(target: str) -> bool:
    """Whether the rustc on the path has a target's libraries, as `rustup target add` brings them."""
    return (_rustlib() / target / "lib").is_dir()


def _missing(all_programs: bool) -> list[str]:
    """Packages that are needed, also for `library` and `footprint` if all programs are to run."""
    packages = {package for tool, package in TOOLS.items() if not shutil.which(tool)}
    if not _has_newlib():
        packages.add(NEWLIB)
    if not S390X_FILE.exists():
        packages.add(S390X_LIBC)
    if not _debian() and (all_programs or not all(map(_own_target, TARGETS))):
        packages.update(DEBIAN_RUST)
    return sorted(packages)


def provide(install: bool) -> None:
    """Sees to it that everything is there: a program that cannot be run is a failure, not one that is left out."""
    if not shutil.which("cargo"):
        raise Failure("cargo is missing: install Rust")
    packages = _missing(install)
    if not packages:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not install:
        raise Failure(f"tools are missing; on Debian 12: {command}\n(or run this with --install)")
    for line in ("apt-get update -qq", command):
        if subprocess.run(line.split()).returncode != 0:
            raise Failure(line)
    if _missing(install):
        raise Failure(f"still missing: {' '.join(_missing(install))}")


def _debian() -> bool:
    return DEBIAN_RUSTC.exists() and DEBIAN_SOURCES.is_dir()


def rust(target: str, flags: str = "") -> tuple[list[str], dict[str, str]]:
    """Options of cargo and environment that compile for a target: Debian's compiler with a core of its own making, or else rustup's own.

    `flags` are of rustc, where the core is compiled too.
    """
    environment = dict(os.environ)
    if not _debian():
        return [], environment
    if flags:
        environment["RUSTFLAGS"] = flags
    # This compiler is not a nightly one; the option is.
    return ["-Zbuild-std=core"], environment | {"RUSTC": str(DEBIAN_RUSTC), "RUSTC_BOOTSTRAP": "1"}


def host() -> dict[str, str]:
    """Environment that compiles for this machine, with the Rust on the path."""
    return dict(os.environ)


def wasm_linker() -> dict[str, str]:
    """Environment that says which linker makes WebAssembly: that of rustup's Rust, or LLVM's."""
    linkers = [*sorted(_rustlib().glob("*/bin/rust-lld")), *filter(None, [shutil.which("wasm-ld")])]
    if not linkers:
        raise Failure("no linker for WebAssembly: install lld")
    return {"CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER": str(linkers[0])}
