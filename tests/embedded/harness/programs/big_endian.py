"""Checkpoints move between machines of both byte orders: on s390x, emulated, they are loaded, stepped and saved as on x86-64, byte for byte."""

import platform
import tempfile
from pathlib import Path

from .. import build
from ..command import run as execute
from ..failure import Failure
from ..paths import EMBEDDED, ROOT

COMMITTED = ROOT / "tests" / "data" / "checkpoint_v1_f32.bin"


def run() -> None:
    if platform.machine() != "x86_64":
        print("NOT RUN: this is no x86-64 machine, to compare with")
        return
    little, big = build.hosted("x86_64-unknown-linux-gnu", "cc"), build.hosted("s390x-unknown-linux-gnu", "s390x-linux-gnu-gcc")
    machines = {"little": [little], "big": ["qemu-s390x", big]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def start(order: str, *arguments) -> str:
            """The bits of the parameters, as the program prints them."""
            said = execute([*machines[order], *arguments]).splitlines()
            if said[0] != f"{order}-endian":
                raise Failure(f"this is no {order}-endian machine: {said[0]}")
            return "\n".join(said[1:])

        def same(what: str, first: Path, second: Path) -> None:
            if first.read_bytes() != second.read_bytes():
                raise Failure(f"{what}: other bytes")
            print(f"{what}: the same {first.stat().st_size} bytes")

        start("big", "committed", COMMITTED, folder / "again")
        same("the committed checkpoint, loaded and saved on a big-endian machine", COMMITTED, folder / "again")
        trained = {order: start(order, "train", folder / order) for order in machines}
        same("trained on either", folder / "little", folder / "big")
        # Each goes on from what the other one has saved.
        resumed = {order: start(order, "resume", folder / other, folder / f"{order}.again") for order, other in (("little", "big"), ("big", "little"))}
        same("loaded by the other one and saved again", folder / "big", folder / "little.again")
        same("loaded by the other one and saved again", folder / "little", folder / "big.again")
        same("and after further steps", folder / "little.again.later", folder / "big.again.later")
        for what, of in (("trained", trained), ("resumed", resumed)):
            if of["little"] != of["big"]:
                raise Failure(f"{what}: other parameters\n{of['little']}\n{of['big']}")
        if trained["little"] == resumed["little"]:
            raise Failure("the parameters have not moved")
