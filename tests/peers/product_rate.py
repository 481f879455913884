"""How fast this machine multiplies matrices: the faster of faer and torch is what floors are counted in."""

import subprocess
import time
from pathlib import Path

import torch

from tensor_sets import RATE_SIZE

WINDOWS = 5
SECONDS = 0.1  # of a window; the best one counts


def torch_rate() -> float:
    """GFLOP/s of float32 products, with the threads that torch has been given."""
    a, b, c = (torch.rand(RATE_SIZE, RATE_SIZE) for _ in range(3))
    torch.mm(a, b, out=c)
    best = 0.0
    for _ in range(WINDOWS):
        begin, products = time.perf_counter(), 0
        while time.perf_counter() - begin < SECONDS:
            torch.mm(a, b, out=c)
            products += 1
        best = max(best, 2e-9 * RATE_SIZE**3 * products / (time.perf_counter() - begin))
    return best


def faer_rate(program: Path, threads: int) -> float:
    """The same of faer, by ffi/examples/product_rate.rs."""
    return float(subprocess.run([program, str(RATE_SIZE), str(threads)], check=True, capture_output=True, text=True).stdout)
