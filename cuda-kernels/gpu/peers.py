"""Times the PyTorch peers of tests/peers on the same sets of tensors as examples/gpu_times, on a GPU, by CUDA events.

    python3 peers.py --csv peers.csv [--sets gpt2,c1000] [--device cpu --trial]

Writes the same table as gpu_times: section, of, who, what, value, unit. A peer that cannot be imported, or fails, is named loudly and left out.
"""

import argparse
import csv
import gc
import importlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Carried beside this file, or in the source tree.
PEERS = next((folder for folder in (HERE / "peers", HERE.parents[1] / "tests" / "peers") if (folder / "contenders.py").is_file()), None)
if PEERS is None:
    sys.exit("peers.py: the folder tests/peers is missing")
sys.path.insert(0, str(PEERS))

import settings  # noqa: E402
import tensor_sets  # noqa: E402
from contenders import CONTENDERS, Contender  # noqa: E402
from limit import OverLimit, limited  # noqa: E402
from tensor_sets import TensorSet  # noqa: E402

try:
    import torch
except ImportError as error:
    sys.exit(f"NO PEERS: torch cannot be imported: {error}")

SETS = {
    "gpt2": TensorSet("gpt2", "12 layers of GPT-2 124M", tensor_sets.LARGE * 12),
    "c1000": TensorSet("c1000", "1000 of 64x64", [(64, 64)] * 1000),
    **{name: one for name, one in tensor_sets.SETS.items() if not one.worst_step},
    "trial": TensorSet("trial", "2 of [6x4, 4x4], to try the program", [(6, 4), (4, 4)] * 2),
}
# torch.set_float32_matmul_precision. The first one is torch's default.
PRECISIONS = {"f32": "highest", "TF32": "high"}


class Clock:
    """Seconds between two points of the device's work."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")

    def now(self) -> object:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, pairs: list[tuple[object, object]]) -> list[float]:
        if not self.cuda:
            return [end - begin for begin, end in pairs]
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) * 1e-3 for begin, end in pairs]


class Table:
    def __init__(self, path: Path | None):
        self.file = path.open("w", newline="") if path else None
        self.writer = csv.writer(self.file, lineterminator="\n") if self.file else None
        if self.writer:
            self.writer.writerow(["section", "of", "who", "what", "value", "unit"])

    def add(self, section: str, of: str, who: str, what: str, value: float, unit: str) -> None:
        row = [section, of, who.replace(",", ";"), what, value, unit]
        print("  ".join(f"{field:.4f}" if isinstance(field, float) else str(field) for field in row), flush=True)
        if self.writer:
            self.writer.writerow(row)
            self.file.flush()


class Gradients:
    """As in tests/peers: a pool, and buffers that are filled before the clock starts."""

    def __init__(self, shapes: list[tensor_sets.Shape]):
        self.pool = [[torch.randn(shape) * settings.GRADIENT_SCALE for shape in shapes] for _ in range(2)]
        self.buffers = [torch.empty(shape) for shape in shapes]
        self.turn = 0

    def deliver(self) -> None:
        torch._foreach_copy_(self.buffers, self.pool[self.turn % len(self.pool)])
        self.turn += 1


def time_contender(contender: Contender, tensor_set: TensorSet, clock: Clock, rounds: int, limit: float) -> tuple[float, float, float]:
    """Seconds of a plain step, of one with all refreshes, and of one amortised over the period."""
    torch.manual_seed(1)
    gradients = Gradients(tensor_set.shapes)
    start = [torch.randn(shape) * settings.PARAMETER_SCALE for shape in tensor_set.shapes]
    params = [torch.nn.Parameter(one.clone()) for one in start]
    adapter = importlib.import_module(f"adapters.{contender.adapter}")
    stepper = adapter.make(params, gradients.buffers, **contender.options)

    def steps(count: int) -> list[float]:
        pairs = []
        for _ in range(count):
            gradients.deliver()
            stepper.prepare()
            begin = clock.now()
            stepper.step()
            pairs.append((begin, clock.now()))
        return clock.seconds(pairs)

    try:
        with limited(limit):
            # Compiled, and through a refresh.
            steps(2 * settings.PERIOD)
            periods = [steps(settings.PERIOD) for _ in range(rounds)]
        if not all(bool(param.isfinite().all()) for param in params):
            raise RuntimeError("parameters are no longer finite")
        if any(torch.equal(param, before) for param, before in zip(params, start, strict=True)):
            raise RuntimeError("a parameter has not moved")
    finally:
        stepper.close()
    plain = statistics.median(seconds for period in periods for seconds in period)
    return plain, statistics.median(max(period) for period in periods), statistics.median(map(statistics.fmean, periods))


def time_factorisations(tensor_set: TensorSet, clock: Clock, rounds: int) -> float:
    """Seconds of torch.linalg.qr over a factor per mode, equal sizes in one call."""
    counts = Counter(d for shape in tensor_set.shapes for d in shape)
    stacks = [torch.randn(count, d, d) for d, count in sorted(counts.items())]

    def once() -> float:
        begin = clock.now()
        for stack in stacks:
            torch.linalg.qr(stack)
        return clock.seconds([(begin, clock.now())])[0]

    once()
    return statistics.median(once() for _ in range(rounds))


def attempt(what: str, work: Callable[[], object], failures: list[str]) -> object:
    try:
        return work()
    except ImportError as error:
        failures.append(f"NOT AVAILABLE: {what}: {error}")
    except OverLimit:
        failures.append(f"TOO SLOW: {what}")
    except Exception as error:  # one peer's trouble is not the others'
        if type(error).__name__ == "DoesNotApply":
            print(f"{what}: does not apply: {error}", flush=True)
            return None
        failures.append(f"FAILED: {what}: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}")
    print(failures[-1], flush=True)
    return None


def names(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return parse


def options() -> argparse.Namespace:
    adapters = sorted({one.adapter for one in CONTENDERS if not one.ours})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=names(list(SETS)), default=[name for name in SETS if name != "trial"])
    parser.add_argument("--peers", type=names(adapters), default=adapters, help=f"of {', '.join(adapters)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="periods that are timed (%(default)s)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one peer on one set (%(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try this program (%(default)s)")
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled by torch.compile")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def main() -> int:
    chosen = options()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        print("NO PEERS: this torch finds no GPU", flush=True)
        return 1
    where = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else "the CPU"
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {where}", flush=True)
    torch.set_default_device(chosen.device)
    # Otherwise torch.compile stops compiling without a word after so many versions.
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    clock, table, failures = Clock(chosen.device), Table(chosen.csv), []
    contenders = [one for one in CONTENDERS if not one.ours and one.adapter in chosen.peers]
    if chosen.eager:
        contenders = [one for one in contenders if not one.options.get("compiled")]
    missing = set()
    for name in chosen.sets:
        tensor_set = SETS[name]
        print(f"set {name}: {tensor_set.title}, {sum(map(prod, tensor_set.shapes))} elements", flush=True)
        for precision, setting in PRECISIONS.items():
            torch.set_float32_matmul_precision(setting)
            what = f"torch.linalg.qr; {precision}"
            seconds = attempt(what, lambda: time_factorisations(tensor_set, clock, chosen.rounds), failures)
            if seconds is not None:
                table.add("refresh", name, what, "QR of all factors", seconds * 1e3, "ms")
            for contender in contenders:
                if contender.package in missing:
                    continue
                torch._dynamo.reset()
                who = f"{contender.name}; {precision}"
                before = len(failures)
                times = attempt(
                    f"{who} on {name}", lambda: time_contender(contender, tensor_set, clock, chosen.rounds, chosen.limit), failures
                )
                if len(failures) > before and failures[-1].startswith("NOT AVAILABLE"):
                    missing.add(contender.package)
                if times:
                    for what, seconds in zip(("plain step", "step with all refreshes", "amortised step"), times, strict=True):
                        table.add("steps", name, who, what, seconds * 1e3, "ms")
                gc.collect()
                if clock.cuda:
                    torch.cuda.empty_cache()
    print("\n".join(["", "All peers ran." if not failures else "NOT ALL PEERS RAN:", *failures]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
