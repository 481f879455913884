"""Looking into linked programs."""

from pathlib import Path

from .command import run


def sections(program: Path) -> dict[str, int]:
    """Bytes of each section."""
    lines = run(["arm-none-eabi-size", "-A", program]).splitlines()
    fields = [line.split() for line in lines]
    return {name: int(size) for name, size, *_ in (f for f in fields if len(f) == 3 and f[1].isdigit())}


def symbols(program: Path, *options: str) -> list[str]:
    """Names of symbols, as nm's options choose them."""
    lines = run(["arm-none-eabi-nm", "--format=posix", *options, program]).splitlines()
    return sorted({line.split()[0] for line in lines if " " in line})
