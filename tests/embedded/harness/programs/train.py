"""A network learns digits on a Cortex-M4F, in Rust: KL-Shampoo beside AdamW and SGD."""

import re
from functools import cache

from .. import boards, build, memory, qemu
from ..failure import Failure


@cache
def output() -> str:
    """What the program says; it runs once."""
    program = build.rust(boards.M4F, "train")
    memory.check(program)
    return qemu.run(boards.M4F, program)


def kl_shampoo_checksum() -> str:
    """Of the weights that KL-Shampoo leaves."""
    line = re.search(r"^KL-Shampoo .* ([0-9a-f]{8})$", output(), re.MULTILINE)
    if not line:
        raise Failure("the program has no line about KL-Shampoo")
    return line[1]


def run() -> None:
    output()
