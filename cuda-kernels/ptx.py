#!/usr/bin/env python3
"""Compiles the kernels to PTX with a pinned nvcc, which needs no GPU.

    ptx.py            writes ptx/klshampoo.ptx
    ptx.py --check    compares with it instead, and compiles for the devices that this nvcc knows
    ptx.py --nvcc     prints the path of the nvcc

The compiler is installed into target/nvcc (104 MB from PyPI) if it is not there yet.
"""

import argparse
import concurrent.futures
import difflib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "kernels" / "klshampoo.cu"
PTX = HERE / "ptx" / "klshampoo.ptx"
PACKAGES = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
]
# As in build.rs.
FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Werror=all-warnings"]
DEVICES = ["sm_80", "sm_90", "sm_100", "sm_120"]


def nvcc():
    """The path of the compiler, installed if it is not."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent / "target")
    environment = target / "nvcc"
    done = environment / "packages.txt"
    wanted = "\n".join(PACKAGES) + "\n"
    if not done.is_file() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-compile", "--no-deps"]
        subprocess.run([environment / "bin" / "python", *install, *PACKAGES], check=True)
        done.write_text(wanted)
    found = list(environment.glob("lib/python*/site-packages/nvidia/cu13/bin/nvcc"))
    if len(found) != 1:
        sys.exit(f"{environment}: {len(found)} nvcc")
    return found[0]


def compile(compiler, *arguments):
    """Runs nvcc beside the sources, so that no path of this machine gets into what it writes."""
    subprocess.run([compiler, *FLAGS, *arguments, SOURCE.name], check=True, cwd=SOURCE.parent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--nvcc", action="store_true")
    arguments = parser.parse_args()
    start = time.monotonic()
    compiler = nvcc()
    if arguments.nvcc:
        print(compiler)
        return
    print(f"nvcc: {time.monotonic() - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        made = Path(folder) / PTX.name
        compile(compiler, "-ptx", "-arch=compute_80", "-o", made)
        text = made.read_text()
        print(f"PTX: {len(text)} bytes, {text.count('.entry ')} kernels, {time.monotonic() - start:.1f} s")
        if not arguments.check:
            PTX.parent.mkdir(exist_ok=True)
            PTX.write_text(text)
            return
        committed = PTX.read_text() if PTX.is_file() else ""
        if committed != text:
            names = str(PTX.relative_to(HERE.parent)), "compiled"
            lines = list(difflib.unified_diff(committed.splitlines(), text.splitlines(), *names, lineterm="", n=1))
            print("\n".join(lines[:40]))
            sys.exit(f"{names[0]} is not what the kernels compile to: run cuda-kernels/ptx.py")
        known = subprocess.run([compiler, "--list-gpu-code"], check=True, capture_output=True, text=True).stdout.split()

        def check(device):
            if device not in known:
                return f"{device}: not known to this nvcc"
            start = time.monotonic()
            code = Path(folder) / f"{device}.cubin"
            compile(compiler, "-cubin", f"-arch={device}", "-o", code)
            return f"{device}: {code.stat().st_size} bytes, {time.monotonic() - start:.1f} s"

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for line in pool.map(check, DEVICES):
                print(line)


if __name__ == "__main__":
    main()
