"""The virtual environment with the peers in it."""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HARNESS = HERE / "requirements.txt"
PEERS = HERE / "requirements-peers.txt"


class SetupError(RuntimeError):
    """The measurement cannot run at all."""


class Environment:
    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "bin" / "python"
        # What pip was asked for, for each peer that it could install.
        self.record = folder / "peers.json"

    def make(self) -> None:
        if not self.folder.exists():
            print(f"making {self.folder}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        elif not self.python.exists():
            raise SetupError(f"{self.folder} is there and is no virtual environment; give another --venv")
        version = subprocess.run(
            [self.python, "-c", "import sys; print(sys.version_info[:2])"], check=True, capture_output=True, text=True
        ).stdout
        if version.strip() != str(sys.version_info[:2]):
            raise SetupError(
                f"{self.folder} was made by Python {version.strip()}, this is {sys.version_info[:2]}: remove it or give another --venv"
            )
        print("installing what the measurement needs", flush=True)
        failure = self.pip(["-r", str(HARNESS)], self.folder / "pip-harness.log")
        if failure:
            raise SetupError(f"{HARNESS.name}: {failure}")

    def install_peers(self, wanted: dict[str, str]) -> dict[str, str]:
        """Installs each on its own; the answer names those that cannot be installed, and why."""
        installed = json.loads(self.record.read_text()) if self.record.exists() else {}
        unavailable = {}
        for name, line in wanted.items():
            if installed.get(name) == line:
                continue
            installed.pop(name, None)
            print(f"installing {line}", flush=True)
            failure = self.pip([line, "--constraint", str(HARNESS)], self.folder / f"pip-{name}.log")
            if failure:
                unavailable[name] = failure
                print(f"NOT AVAILABLE: {name}: {failure}", flush=True)
            else:
                installed[name] = line
            self.record.write_text(json.dumps(installed, indent=1))
        return unavailable

    def pip(self, arguments: list[str], log: Path) -> str:
        """An empty answer, or pip's own words about what went wrong."""
        done = subprocess.run([self.python, "-m", "pip", "install", *arguments], capture_output=True, text=True)
        log.write_text(done.stdout + done.stderr)
        if done.returncode == 0:
            return ""
        print(f"pip failed; all it said is in {log}", flush=True)
        errors = dict.fromkeys(line.strip() for line in done.stderr.splitlines() if re.match(r"\s*(ERROR|fatal):", line))
        return " ".join(errors) or f"pip ended with {done.returncode}"


def peer_requirements(replaced: dict[str, str], known: set[str]) -> dict[str, str]:
    """The lines of the requirements file by pip's names; `replaced` is what --install says."""
    lines = [line.strip() for line in PEERS.read_text().splitlines()]
    wanted = {re.split(r"[ =@<>~]", line, maxsplit=1)[0]: line for line in lines if line and not line.startswith("#")}
    assert set(wanted) == known, f"{PEERS.name} and contenders.py name different packages"
    for name, requirement in replaced.items():
        if name not in wanted:
            raise SetupError(f"--install {name}: there is no such peer; there are {', '.join(wanted)}")
        wanted[name] = f"{name}=={requirement}" if requirement[0].isdecimal() else requirement
    return wanted
