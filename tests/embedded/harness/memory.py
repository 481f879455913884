"""What a program takes of flash and RAM."""

from pathlib import Path

from . import elf
from .failure import Failure

INITIALISED_LIMIT = 1024  # Bytes of .data. Buffers lie in .bss; in .data their zeros would be in flash, too.


def check(program: Path) -> None:
    """Prints what a program takes, and fails where a large buffer is in .data."""
    size = {name: 0 for name in (".text", ".rodata", ".data", ".bss", ".uninit")} | elf.sections(program)
    flash = sum(size[name] for name in size if name in (".vector_table", ".text", ".rodata", ".data", ".ARM.exidx"))
    ram = size[".data"] + size[".bss"] + size[".uninit"]
    print(f"{program.name}: {flash} bytes of flash, {ram} of RAM besides the stack, {size['.data']} of them initialised")
    if size[".data"] > INITIALISED_LIMIT:
        raise Failure(f"{program.name} has {size['.data']} bytes of .data: a buffer is not in .bss")
