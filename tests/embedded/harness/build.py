"""Compiling: Rust programs, the C library, C programs."""

import shutil
from pathlib import Path

from . import toolchain
from .boards import Board
from .command import run
from .paths import EMBEDDED, ROOT, TARGET


def rust(board: Board, package: str, profile: str = "release") -> Path:
    """A program of this workspace for a board."""
    options, environment = toolchain.rust(board.target)
    # A board has options of its own, so it has a folder of its own.
    folder = TARGET / board.name
    command = ["cargo", "build", "--quiet", "--profile", profile, "--locked", "-p", package, "--config", board.config, *options]
    run(command, cwd=EMBEDDED, env=environment | {"CARGO_TARGET_DIR": str(folder)})
    return folder / board.target / profile / package


def host(package: str) -> Path:
    """A program of this workspace for this machine."""
    environment = toolchain.host()
    run(["cargo", "build", "--quiet", "--release", "--locked", "-p", package], cwd=EMBEDDED, env=environment | {"CARGO_TARGET_DIR": str(TARGET / "host")})
    return TARGET / "host" / "release" / package


def bare(package: str) -> Path:
    """A program of this workspace for x86-64 Linux that links no library, and computes without SSE."""
    target = "x86_64-unknown-none"
    options, environment = toolchain.rust(target)
    # Where the program lies is fixed: nobody would relocate it.
    environment |= {"RUSTFLAGS": "-Clinker=ld -Crelocation-model=static -Ccode-model=small", "CARGO_TARGET_DIR": str(TARGET / "bare")}
    run(["cargo", "build", "--quiet", "--release", "--locked", "-p", package, "--target", target, *options], cwd=EMBEDDED, env=environment)
    return TARGET / "bare" / target / "release" / package


def wasm(package: str) -> Path:
    """A library of this workspace as a WebAssembly module."""
    target = "wasm32-unknown-unknown"
    options, environment = toolchain.rust(target)
    command = ["cargo", "rustc", "--quiet", "--release", "--locked", "-p", package, "--lib", "--crate-type", "cdylib", "--target", target, *options]
    run(command, cwd=EMBEDDED, env=environment | toolchain.wasm_linker() | {"CARGO_TARGET_DIR": str(TARGET / "wasm")})
    return TARGET / "wasm" / target / "release" / f"{package}.wasm"


# What the C program uses.
FEATURES = ("kl-shampoo", "adamw", "messages")
# Panics, which cannot happen, stop at once: their texts would bring core::fmt.
IMMEDIATE_ABORT = "-Zunstable-options -Cpanic=immediate-abort"


def library(target: str, features: tuple[str, ...] = FEATURES) -> Path:
    """The C library without a host, as a firmware links it."""
    options, environment = toolchain.rust(target, IMMEDIATE_ABORT)
    # A folder for each target, so that several can be built at once; core is compiled once for each.
    folder = TARGET / "library" / target
    # A staticlib alone: the others of the package are not for such targets.
    command = ["cargo", "rustc", "--quiet", "--profile", "embedded", "--locked", "-p", "klshampoo-ffi", "--lib", "--crate-type", "staticlib"]
    command += ["--no-default-features", "--features", ",".join(features), "--target", target, *options]
    run(command, cwd=ROOT, env=environment | {"CARGO_TARGET_DIR": str(folder)})
    # A place of its own for each archive.
    archive = folder / "archives" / "+".join(features) / "libklshampoo_ffi.a"
    archive.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / target / "embedded" / "libklshampoo_ffi.a", archive)
    return archive


def c_units(board: Board) -> list[Path]:
    """What the C program is linked from, besides the library."""
    return sorted(c(board).parent.glob("*.o"))


def c(board: Board) -> Path:
    """The C program for a board."""
    folder = TARGET / "c" / board.name
    run(["make", "--no-print-directory", f"BOARD={board.name}", f"LIBRARY={library(board.target)}", f"BUILD={folder}"], cwd=EMBEDDED / "c")
    return folder / "train.elf"


def hosted(target: str, compiler: str) -> Path:
    """The C program that compares byte orders, for Linux on some processor, with a library without a host."""
    program = TARGET / "endian" / target
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-static", "-DKLS_NO_HOST", f"-I{ROOT / 'include'}"]
    run([*command, EMBEDDED / "endian" / "endian.c", library(target, ("all",)), "-Wl,--gc-sections", "-o", program])
    return program
