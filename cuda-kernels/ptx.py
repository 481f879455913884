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
# With the hashes of the wheels for Linux on x86-64 and on 64-bit ARM: pip takes no others.
PACKAGES = {
    "nvidia-cuda-nvcc==13.0.88": [
        "sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
        "sha256:c7ff28f86a24effdc6c034fa15230c549a273e4771b10a7fec14996f8cf3307f",
    ],
    "nvidia-cuda-crt==13.0.88": [
        "sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
        "sha256:ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003",
    ],
    "nvidia-nvvm==13.0.88": [
        "sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
        "sha256:c4376a291d72d22a315d9d2f69bdae8f8cd83a627f75bad395cee49a0fe65dc1",
    ],
    "nvidia-cuda-runtime==13.0.96": [
        "sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        "sha256:ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    ],
    "nvidia-cuda-cccl==13.0.85": [
        "sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
        "sha256:6f0203e29fed809ee2b7fe9b1344df66ecab990c37d6a2e0e189b26d6c97ed7c",
    ],
}
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
        requirements = environment / "requirements.txt"
        requirements.write_text("".join(f"{name} {' '.join(f'--hash={value}' for value in hashes)}\n" for name, hashes in PACKAGES.items()))
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-compile", "--no-deps"]
        install += ["--require-hashes", "--requirement", requirements]
        subprocess.run([environment / "bin" / "python", *install], check=True)
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
