"""Running commands."""

import subprocess
from pathlib import Path

from .failure import Failure


def run(command: list, *, cwd: Path | None = None, env: dict | None = None, limit: float = 900) -> str:
    """A command's standard output. What it says on the other one goes to the terminal. It must succeed."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {limit} s: {' '.join(command)}") from None
    except FileNotFoundError:
        raise Failure(f"{command[0]} is missing") from None
    if done.returncode != 0:
        print(done.stdout, end="")
        raise Failure(f"exit code {done.returncode}: {' '.join(command)}")
    return done.stdout
