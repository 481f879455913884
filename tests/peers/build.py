"""Our side: the shared library and the program that measures faer's products."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class BuildError(RuntimeError):
    pass


def cargo(*arguments: str) -> list[dict]:
    """Builds, and gives what cargo says it made."""
    command = ["cargo", "build", "--release", "-p", "klshampoo-ffi", *arguments, "--message-format=json-render-diagnostics"]
    print(" ".join(command[:-1]), flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BuildError(f"cargo ended with {done.returncode}")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [message for message in messages if message["reason"] == "compiler-artifact"]


def target_folder() -> Path:
    described = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return Path(json.loads(described.stdout)["target_directory"])


def library() -> Path:
    made = [Path(file) for artifact in cargo() if artifact["target"]["name"] == "klshampoo_ffi" for file in artifact["filenames"]]
    shared = [file for file in made if file.suffix in (".so", ".dylib")]
    if len(shared) != 1:
        raise BuildError(f"no shared library among {[file.name for file in made]}")
    return shared[0]


def product_rate() -> Path:
    programs = [artifact["executable"] for artifact in cargo("--example", "product_rate") if artifact["target"]["name"] == "product_rate"]
    return Path(programs[0])


def mkl_as_on_intel(folder: Path) -> Path:
    source, library = Path(__file__).with_name("mkl_as_on_intel.c"), folder / "mkl_as_on_intel.so"
    if subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", library]).returncode:
        raise BuildError(f"{source.name} could not be compiled")
    return library
