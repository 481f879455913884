"""Running programs on emulated boards."""

import subprocess
from pathlib import Path

from .boards import Board
from .failure import Failure

LIMIT = 180  # Seconds; a program that takes longer hangs.


def command(board: Board, program: Path, arguments: tuple[str, ...] = ()) -> list[str]:
    """QEMU's command line. The program gets its arguments by semihosting."""
    runner = [part + "".join(f",arg={argument}" for argument in arguments) if part.startswith("enable=on") else part for part in board.runner]
    return [*runner, str(program)]


def run(board: Board, program: Path, arguments: tuple[str, ...] = (), *, cwd: Path | None = None, code: int = 0, quiet: bool = False) -> str:
    """What a program says; it is printed, too, unless all went well and `quiet`. It must end with the exit code `code`."""
    line = command(board, program, arguments)
    try:
        done = subprocess.run(line, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b"").decode(errors="replace"))
        raise Failure(f"{program.name} is not done after {LIMIT} s on {board.name}") from None
    if not quiet or done.returncode != code:
        print(done.stdout, end="", flush=True)
    if done.returncode != code:
        raise Failure(f"{program.name} on {board.name} ended with {done.returncode} instead of {code}: {' '.join(line)}")
    return done.stdout
