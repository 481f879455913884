"""Every method leaves the same bits on x86-64, Cortex-M0, M4F, M7, M33 and WebAssembly, denormal numbers among them."""

import platform

from .. import at_once, boards, build, qemu
from ..command import run as execute
from ..failure import Failure
from ..paths import EMBEDDED

HAS_BARE = platform.machine() == "x86_64" and platform.system() == "Linux"


def _methods(output: str) -> dict[str, str]:
    """What a program said of each method."""
    lines = [line.rsplit(": ", 2) for line in output.splitlines() if "denormals" in line]
    return {name: f"{checksum}: {denormals}" for name, checksum, denormals in lines}


def run() -> None:
    host = execute([build.host("checksum")])
    print(f"{platform.machine()}:\n{host}", end="")
    expected = _methods(host)
    if len(expected) < 20 or any(outcome.endswith(": 0") for outcome in expected.values()):
        raise Failure("a method is missing, or has met no denormal number")
    at_once.each(
        lambda program: _compare(program[0], program[1](), expected),
        [(f"{board.target} ({board.name})", lambda board=board: _on_board(board)) for board in (boards.M0, boards.M4F, boards.M7, boards.M33)]
        + [("x86_64-unknown-none (no library, no SSE)", lambda: execute([build.bare("checksum")]))] * HAS_BARE
        + [("wasm32 (node)", lambda: execute(["node", EMBEDDED / "checksum" / "wasm.js", build.wasm("checksum")]))],
    )
    if not HAS_BARE:
        print("NOT RUN: x86_64-unknown-none, since this is no x86-64 Linux")


def _on_board(board: boards.Board) -> str:
    return qemu.run(board, build.rust(board, "checksum"), quiet=True)


def _compare(name: str, output: str, expected: dict[str, str]) -> None:
    found = _methods(output)
    different = [f"{method}: {found.get(method)} instead of {outcome}" for method, outcome in expected.items() if found.get(method) != outcome]
    if different:
        raise Failure(f"other bits on {name}:\n  " + "\n  ".join(different))
    print(f"the same bits on {name}: {len(expected)} methods", flush=True)
