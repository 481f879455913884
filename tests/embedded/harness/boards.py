"""The boards that QEMU emulates: a folder each, whose files are what a user copies."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .paths import EMBEDDED


@dataclass(frozen=True)
class Board:
    """`config.toml` for cargo, `memory.x` for the linker, `gcc.options` for C."""

    name: str
    folder: Path
    target: str
    runner: tuple[str, ...]

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"


def board(name: str) -> Board:
    folder = EMBEDDED / "boards" / name
    config = tomllib.loads((folder / "config.toml").read_text())
    target = config["build"]["target"]
    # cargo takes a dot in a target's name for one in a key, so that is how it is written.
    options = functools.reduce(dict.__getitem__, target.split("."), config["target"])
    return Board(name, folder, target, tuple(options["runner"]))


M4F = board("mps2-an386")
M7 = board("mps2-an500")
M33 = board("mps2-an505")
M0 = board("microbit")
