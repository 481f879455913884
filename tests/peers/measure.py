"""One measuring process: all contenders on all sets with one number of threads. Started by run.py with a job's file."""

import gc
import importlib
import statistics
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

import numpy
import torch

import agreement
import klshampoo
import settings
import tensor_sets
from adapters.stepper import DoesNotApply, Stepper
from contenders import CONTENDERS, REFERENCE, Contender
from job import DOES_NOT_APPLY, FAILED, MEASURED, NOT_AVAILABLE, TOO_SLOW, Job, Result, Row, SetResult
from limit import OverLimit, limited
from product_rate import faer_rate, torch_rate
from tensor_sets import SETS, TensorSet

SETTLE = 0.05  # seconds before the clock starts: threads that still wait for work go to sleep


class WrongWork(Exception):
    """The steps were not those that were to be timed."""


class TooSlow(Exception):
    """The steps that are to be timed would take longer than the limit."""


class Gradients:
    """A pool of random gradients, and the buffers from which everyone takes them. Buffers are filled before the clock starts, as a
    backward pass would have."""

    def __init__(self, shapes: list[tensor_sets.Shape]):
        self.pool = [[torch.randn(shape) * settings.GRADIENT_SCALE for shape in shapes] for _ in range(settings.POOL)]
        self.buffers = [torch.empty(shape) for shape in shapes]
        self.turn = 0

    def deliver(self) -> None:
        # By numpy, on this thread: after a copy by torch its threads would wait for more work without sleeping, on the cores of whoever
        # is timed next.
        for buffer, gradient in zip(self.buffers, self.pool[self.turn % settings.POOL], strict=True):
            numpy.copyto(buffer.numpy(), gradient.numpy())
        self.turn += 1


class Entry:
    """A contender at work on a set. It keeps its state over the rounds, so that only the warm-up sees a first step."""

    def __init__(
        self, contender: Contender, tensor_set: TensorSet, gradients: Gradients, start: list[torch.Tensor], more: dict[str, object]
    ):
        self.contender, self.tensor_set, self.gradients, self.start = contender, tensor_set, gradients, start
        self.row = Row(contender.name)
        self.steps: list[list[float]] = []
        self.params = [torch.nn.Parameter(one.clone()) for one in start]
        adapter = importlib.import_module(f"adapters.{contender.adapter}")
        self.stepper: Stepper = adapter.make(self.params, gradients.buffers, **contender.options, **more)

    def timed_steps(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            self.gradients.deliver()
            self.stepper.prepare()
            begin = time.perf_counter()
            self.stepper.step()
            seconds.append(time.perf_counter() - begin)
        return seconds

    def warm_up(self, job: Job) -> None:
        last = self.timed_steps(settings.WARMUP + (settings.PERIOD if self.contender.long_warm_up else 0))[-1]
        self.check_parameters()
        if last * job.steps > job.limit:
            raise TooSlow(f"a step of the warm-up took {last:.3g} s; {job.steps} of them may take {job.limit:g} s (--limit)")

    def window(self, count: int) -> None:
        before = self.refreshes()
        time.sleep(SETTLE)
        seconds = self.timed_steps(count)
        self.check_parameters()
        self.check_refreshes(count, self.refreshes() - before)
        self.steps.append(seconds)
        self.row.means.append(statistics.fmean(seconds))
        self.row.bursts.append(max(seconds) / statistics.fmean(seconds))

    @property
    def counts_refreshes(self) -> bool:
        return self.contender.ours and self.contender.method != "AdamW"

    def refreshes(self) -> int:
        return self.stepper.optimizer.refreshes() if self.counts_refreshes else 0

    def check_refreshes(self, steps: int, made: int) -> None:
        """Ours must have done what is being claimed. Peers do not count theirs."""
        if not self.counts_refreshes:
            return
        period = self.contender.options.get("period", settings.PERIOD)
        wanted = self.tensor_set.modes() * steps // period if self.contender.options.get("refreshes", True) else 0
        if made != wanted:
            raise WrongWork(f"{made} refreshes of eigenbases in {steps} steps where {wanted} are due")

    def check_parameters(self) -> None:
        if not all(bool(param.isfinite().all()) for param in self.params):
            raise WrongWork("parameters are no longer finite")
        if any(torch.equal(param, start) for param, start in zip(self.params, self.start, strict=True)):
            raise WrongWork("a parameter has not moved")

    def summarize(self) -> None:
        """What the spread over the steps was, ours only."""
        if not self.counts_refreshes or self.row.status != MEASURED:
            return
        self.row.state_bytes = self.stepper.optimizer.state_bytes()
        phases = [statistics.median(phase) for phase in self.by_phase()]
        self.row.phase_burst = max(phases) / statistics.fmean(phases)
        first = self.stepper.steps - len(self.steps[-1]) + 1
        flops = [self.stepper.optimizer.predicted_flops(step) for step in range(first, self.stepper.steps + 1)]
        self.row.flop_burst = max(flops) / statistics.fmean(flops)

    def by_phase(self) -> list[list[float]]:
        """The steps of all rounds by their place in the period; rounds are whole periods."""
        return [[seconds for window in self.steps for seconds in window[phase :: settings.PERIOD]] for phase in range(settings.PERIOD)]

    def close(self) -> None:
        self.stepper.close()


class Measurement:
    def __init__(self, job: Job):
        self.job = job
        self.library = klshampoo.Library(Path(job.library))
        self.versions = {"python": sys.version.split()[0], "torch": torch.__version__, "klshampoo": self.library.version()}

    def contenders(self, tensor_set: TensorSet) -> list[Contender]:
        if tensor_set.worst_step:
            return [contender for contender in CONTENDERS if contender.name == REFERENCE]
        peers = [contender for contender in CONTENDERS if contender.adapter in self.job.adapters]
        methods = {contender.method for contender in peers if contender.package not in self.job.unavailable}
        # Ours at T = 1 are slow, and are there for peers that have no period.
        ours = [one for one in CONTENDERS if one.ours and (one.method in methods or not one.method.endswith("T = 1"))]
        return [one for one in ours if tensor_set.floor or not one.only_floor] + peers

    def attempt(self, row: Row, action: str, work: object) -> object:
        """Runs a piece of work of one contender; what goes wrong becomes its row's reason, not the end of the run."""
        try:
            with limited(self.job.limit):
                return work()
        except TooSlow as reason:
            row.status, row.reason = TOO_SLOW, str(reason)
        except OverLimit:
            row.status, row.reason = TOO_SLOW, f"{action} took more than {self.job.limit:g} s (--limit)"
        except DoesNotApply as reason:
            row.status, row.reason = DOES_NOT_APPLY, str(reason)
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            row.status, row.reason = FAILED, f"{action}: {type(error).__name__}: {first_line[:200]}"
            with open(self.job.log, "a") as log:
                log.write(f"== {self.job.threads} threads, {row.contender}, {action}\n{traceback.format_exc()}\n")
        say(f"  {row.contender}: {row.status}: {row.reason}")
        return None

    def enter(self, contender: Contender, tensor_set: TensorSet, gradients: Gradients, start: list[torch.Tensor]) -> Entry | Row:
        row = Row(contender.name)
        if contender.package in self.job.unavailable:
            row.status, row.reason = NOT_AVAILABLE, self.job.unavailable[contender.package]
            return row
        more = {"library": self.library, "threads": self.job.threads} if contender.ours else {}
        entry = self.attempt(row, "setting up", lambda: Entry(contender, tensor_set, gradients, start, more))
        if entry is None:
            return row
        say(f"  warming up {contender.name}")
        self.attempt(entry.row, "warming up", lambda: entry.warm_up(self.job))
        return entry

    def measure(self, tensor_set: TensorSet) -> SetResult:
        say(f"set {tensor_set.name}: {tensor_set.title}, {self.job.threads} thread(s)")
        torch._dynamo.reset()  # its limit of compiled versions per function is for all sets together
        torch.manual_seed(1)
        gradients = Gradients(tensor_set.shapes)
        start = [torch.randn(shape) * settings.PARAMETER_SCALE for shape in tensor_set.shapes]
        entered = [self.enter(contender, tensor_set, gradients, start) for contender in self.contenders(tensor_set)]
        rates = {"faer": 0.0, "torch": 0.0}
        for turn in range(self.job.rounds):
            rates["faer"] = max(rates["faer"], faer_rate(Path(self.job.product_rate), self.job.threads))
            rates["torch"] = max(rates["torch"], torch_rate())
            for entry in alternated(entered):
                if entry.row.status == MEASURED:
                    self.attempt(entry.row, f"round {turn + 1}", lambda entry=entry: entry.window(self.job.steps))
                if entry.row.status == MEASURED:
                    say(f"  round {turn + 1}: {entry.row.contender}: {1e3 * entry.row.means[-1]:.3f} ms a step")
        rows = []
        for entry in entered:
            if isinstance(entry, Entry):
                self.attempt(entry.row, "summing up", entry.summarize)
                entry.close()
            rows.append(entry.row if isinstance(entry, Entry) else entry)
        return SetResult(tensor_set.name, rows, rates)


def alternated(entered: list[Entry | Row]) -> list[Entry]:
    """Ours spread among the peers: what slows the machine for a while should not hit one side only."""
    entries = [entry for entry in entered if isinstance(entry, Entry)]
    ours, peers = ([entry for entry in entries if entry.contender.ours is side] for side in (True, False))
    placed = [(place / len(side), entry) for side in (ours, peers) for place, entry in enumerate(side)]
    return [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    job = Job.load(Path(sys.argv[1]))
    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision("highest")
    # torch.compile's way out of too many compiled versions is to stop compiling without a word.
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    measurement = Measurement(job)
    packages = {contender.package for contender in CONTENDERS if contender.adapter in job.adapters and contender.package} - set(
        job.unavailable
    )
    versions = measurement.versions | {package: metadata.version(package) for package in sorted(packages)}
    notes = [agreement.check(measurement.library, job.threads), *measurement.library.notes]
    if job.preload:
        notes.append("torch's MKL was told that this is an Intel processor (--mkl-as-on-intel)")
    result = Result(job.threads, job.steps, job.rounds, versions, notes)
    for name in job.sets:
        result.sets.append(measurement.measure(SETS[name]))
        gc.collect()
        result.save(Path(job.result))
    result.finished = True
    result.save(Path(job.result))


if __name__ == "__main__":
    main()
