"""A layer learns digits on a Cortex-M0 with 16 KiB of RAM: KL-Shampoo beside AdamW and SGD."""

from .. import boards, build, memory, qemu


def run() -> None:
    program = build.rust(boards.M0, "microbit", "small")
    memory.check(program)
    qemu.run(boards.M0, program)
