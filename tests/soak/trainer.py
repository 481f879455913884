"""The GPT example's trainer: built, started, listened to."""

import json
import os
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "bindings-c" / "examples" / "gpt"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def build() -> Path:
    """The program as the example's README has it, over the release library."""
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "-p", "klshampoo-ffi"], cwd=ROOT, check=True)
    program = TARGET / "soak" / "gpt-train"
    program.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted(path for path in (EXAMPLE / "c").glob("*.c") if path.name != "gradcheck.c")
    command = ["cc", "-std=c11", "-O3", "-march=native", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT / 'include'}", *sources]
    subprocess.run([*command, TARGET / "release" / "libklshampoo_ffi.a", "-lm", "-lpthread", "-ldl", "-o", program], check=True)
    return program


class Process:
    """A trainer that runs, and what it has said so far."""

    def __init__(self, command: list):
        # Python ignores the signal that comes with a file that has grown too large, and hands that on: the program gets the error alone.
        self._process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         text=True, restore_signals=False)
        self.pid = self._process.pid
        self.events: list[dict] = []
        self._complaints: list[str] = []
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._hear)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            try:
                self.events.append(json.loads(line))
            except json.JSONDecodeError:
                # A line that was cut off when the process was killed.
                self._complaints.append(line)

    def _hear(self) -> None:
        self._complaints.extend(self._process.stderr)

    def count(self, event: str) -> int:
        return sum(1 for found in list(self.events) if found["event"] == event)

    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self._process.kill()
        self._end()

    def finish(self) -> int:
        """Waits for the end; its exit status."""
        self._end()
        return self._process.returncode

    def _end(self) -> None:
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def complaints(self) -> str:
        return "".join(self._complaints)
