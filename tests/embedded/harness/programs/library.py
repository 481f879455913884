"""What the C program links of the library: no allocator, no formatting, no double-precision routine, nothing of std."""

import re
import tempfile
from pathlib import Path

from .. import boards, build, elf
from ..command import run as execute
from ..failure import Failure

FORBIDDEN = {
    "an allocator": re.compile(r"(malloc|calloc|realloc|free|_malloc_r|_free_r|_sbrk)$|__rust_(re|de)?alloc|__rdl_|__rg_|5alloc"),
    "core::fmt": re.compile(r"4core3fmt"),
    "std": re.compile(r"_ZN3std|_3std"),
    # Of the ARM run-time ABI, and as compilers call them.
    "arithmetic in double precision": re.compile(r"__aeabi_(c?d|f2d|h2d|u?[il]2d)|__[a-z]*df[a-z]*[0-9]?$"),
}


def run() -> None:
    functions = sorted({name for unit in build.c_units(boards.M4F) for name in elf.symbols(unit, "--undefined-only") if name.startswith("kls_")})
    print(f"the C program calls {len(functions)} functions: {' '.join(functions)}")
    for board in (boards.M4F, boards.M0):
        check(build.library(board.target), functions, board.target)


def check(library: Path, functions: list[str], target: str) -> None:
    """Links what these functions need of the library by itself: it must need nothing from outside, and is not mixed with what a program brings."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.elf"
        execute(["arm-none-eabi-ld", "--gc-sections", "--entry", functions[0], *(f"--undefined={name}" for name in functions), library, "-o", part])
        names, size = elf.symbols(part), elf.sections(part)
    if missing := set(functions) - set(names):
        raise Failure(f"{target}: the library does not have {', '.join(sorted(missing))}")
    found = [f"{name} ({what})" for what, pattern in FORBIDDEN.items() for name in names if pattern.search(name)]
    if found:
        raise Failure(f"{target}: the library part has\n  " + "\n  ".join(found))
    print(f"{target}: {size['.text']} bytes of code, {size.get('.rodata', 0)} of constants, nothing forbidden among {len(names)} symbols, nothing needed from outside")
