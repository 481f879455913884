#!/usr/bin/env python3
"""Trains the GPT example twice with the same options, once undisturbed and once with faults, and compares.

    python3 tests/soak/run.py                    # about a minute
    python3 tests/soak/run.py --minutes 30       # a long one: as many steps as take the disturbed run that long, found by trying
    python3 tests/soak/run.py --steps 60000 --kills 60 --result tests/soak/results/soak.json

The faults: the process is killed and goes on from its last save; saves fail, for the disk is full or the folder gone; gradients have a NaN or an
infinity, are refused and given again. README.md says what must come out. Needs Python 3.11, Rust, cc and Linux.
"""

import argparse
import dataclasses
import json
import platform
import random
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import faults
import trainer
from memory import Report, Watch
from trainer import Process

MODEL = ["--method", "kl-shampoo", "--layers", "2", "--channels", "64", "--heads", "4", "--context", "32", "--batch", "4", "--eval-bytes", "4096"]
SAVE_EVERY, EVAL_EVERY, FAULTY_EVERY = 20, 50, 7
SHORT_STEPS, SHORT_KILLS = 4000, 12
# Growth that a process may show between the ends of the line through its memory; what is lost per step, save or refusal would be more.
FLAT = 512 * 1024


class Failure(Exception):
    """What must not be."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise Failure(what)


class Training:
    """A training whose saves are in a folder, in one process after another."""

    def __init__(self, program: Path, folder: Path, steps: int, options: list[str] | None = None):
        folder.mkdir()
        self.folder, self.model, self.steps = folder, folder / "run", steps
        data = trainer.EXAMPLE / "data"
        self._command = [program, "--data", data, *MODEL, "--steps", steps, "--save", self.model, "--save-every", SAVE_EVERY, "--eval-every",
                         EVAL_EVERY, *(options or [])]
        self._ended: list[Process] = []

    def start(self) -> Process:
        process = Process([*self._command, *(["--resume", self.model] if self.model.exists() else [])])
        self._ended.append(process)
        return process

    def losses(self) -> dict[int, str]:
        """The validation losses, exactly. A step that was evaluated by several processes has one."""
        losses: dict[int, str] = {}
        for event in (event for process in self._ended for event in process.events if event["event"] == "eval"):
            known = losses.setdefault(event["step"], event["val_loss_exact"])
            require(known == event["val_loss_exact"], f"step {event['step']} has two losses: {known} and {event['val_loss_exact']}")
        return losses

    def count(self, event: str) -> int:
        return sum(process.count(event) for process in self._ended)

    def left(self) -> list[str]:
        """Files that are none of the last save's."""
        saved = {self.model.name, f"{self.model.name}.optimizer-{self.saved()}"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in saved)

    def saved(self) -> int:
        """The step of the last save; 0 before there is one. The third number of the file."""
        return int.from_bytes(self.model.read_bytes()[16:24], "little") if self.model.exists() else 0


def whole(training: Training) -> Report:
    """A training without any fault."""
    process = training.start()
    watch = Watch(process.pid)
    require(process.finish() == 0, process.complaints())
    require(process.complaints() == "", process.complaints())
    memory = watch.report()
    require(memory is not None, "the undisturbed training was too short to watch its memory")
    return memory


@dataclasses.dataclass
class Disturbances:
    """What was done, how often."""

    kills: int = 0
    kills_in_a_save: int = 0
    failed_saves: dict = dataclasses.field(default_factory=lambda: dict.fromkeys(faults.ALL, 0))


def fail_saves(training: Training, process: Process, chance: random.Random, done: Disturbances, until: float) -> None:
    """Makes saves fail now and then, until a time or, since the last save must not fail, until some saves before the end of the training."""
    last = training.steps - 10 * SAVE_EVERY
    while process.runs() and time.monotonic() < until and training.saved() < last:
        time.sleep(min(chance.expovariate(1 / 1.5), max(0.0, until - time.monotonic())))
        name = chance.choice(list(faults.ALL))
        if process.runs() and time.monotonic() < until and training.saved() < last and faults.ALL[name](process, training.folder):
            done.failed_saves[name] += 1


def disturbed(training: Training, steps: int, kills: int, life: float, chance: random.Random) -> tuple[Disturbances, Report]:
    """The first half with kills; the second in one process, so that its memory can be watched, with everything else."""
    done = Disturbances()
    while done.kills < kills and training.saved() < steps // 2:
        process = training.start()
        # It may be killed while it reads the saves, too.
        until = time.monotonic() + chance.uniform(0.02, 2 * life)
        if chance.random() < 0.5:
            fail_saves(training, process, chance, done, until)
        while process.runs() and time.monotonic() < until:
            time.sleep(0.001)
        require(process.runs(), f"it ended by itself: {process.complaints()}")
        process.kill()
        done.kills += 1
        left = training.left()
        done.kills_in_a_save += bool(left)
        require(sum(name.startswith(".klshampoo-") for name in left) <= 1, f"temporary files pile up: {left}")
    process = training.start()
    watch = Watch(process.pid)
    fail_saves(training, process, chance, done, time.monotonic() + 1e6)
    require(process.finish() == 0, process.complaints())
    memory = watch.report()
    require(memory is not None, "the last process was too short to watch its memory")
    return done, memory


def calibrate(program: Path, folder: Path, minutes: float, alone: bool) -> int:
    """Steps of a training that take so long."""
    training = Training(program, folder, 500)
    start = time.monotonic()
    whole_process = training.start()
    require(whole_process.finish() == 0, whole_process.complaints())
    return round(500 * 60 * minutes / (time.monotonic() - start) / (1 if alone else 2))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models, flags = ({line.split(":", 1)[1].strip() for line in lines if line.startswith(key)} for key in ("model name", "flags"))
    return f"{', '.join(sorted(models))}, {'with' if all('avx512f' in found for found in flags) else 'without'} AVX-512"


def soak(chosen: argparse.Namespace) -> dict:
    program = trainer.build()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        steps = chosen.steps or (calibrate(program, folder / "trial", chosen.minutes, chosen.alone) if chosen.minutes else SHORT_STEPS)
        kills = chosen.kills or (max(SHORT_KILLS, round(chosen.minutes * 4)) if chosen.minutes else SHORT_KILLS)
        clean, shaken = Training(program, folder / "clean", steps), Training(program, folder / "disturbed", steps, ["--faulty-every", FAULTY_EVERY])
        start, seconds, memories, errors = time.monotonic(), {}, {}, []

        def undisturbed() -> None:
            try:
                memories["undisturbed"] = whole(clean)
            except Failure as failure:
                errors.append(failure)
            seconds["undisturbed"] = round(time.monotonic() - start, 1)

        beside = threading.Thread(target=undisturbed)
        beside.start()
        try:
            if chosen.alone:
                beside.join()
                start = time.monotonic()
            # Half of the time for the kills.
            life = (chosen.minutes or 0.6) * 60 / 2 / kills
            done, memories["disturbed"] = disturbed(shaken, steps, kills, life, random.Random(chosen.seed))
            seconds["disturbed"] = round(time.monotonic() - start, 1)
        finally:
            beside.join()
        if errors:
            raise errors[0]
        return compare(clean, shaken, steps, done, memories) | {"seconds": seconds, "seed": chosen.seed}


def compare(clean: Training, shaken: Training, steps: int, done: Disturbances, memories: dict[str, Report]) -> dict:
    expected, found = clean.losses(), shaken.losses()
    require(max(expected) == steps and len(expected) >= steps // EVAL_EVERY, "evaluations are missing")
    require(set(found) == set(expected), f"evaluated at other steps: {sorted(set(found) ^ set(expected))}")
    apart = max(abs(float.fromhex(expected[step]) - float.fromhex(found[step])) for step in expected)
    differing = [step for step in sorted(expected) if expected[step] != found[step]]
    require(not differing, f"other losses, up to {apart} apart, first at steps {differing[:3]}")
    for suffix in ("", f".optimizer-{steps}"):
        mine, theirs = (training.folder / f"run{suffix}" for training in (clean, shaken))
        require(mine.read_bytes() == theirs.read_bytes(), f"run{suffix} has other bytes")
    losses = [float.fromhex(expected[step]) for step in (min(expected), max(expected))]
    require(losses[1] < 0.75 * losses[0], f"nothing was learned: {losses}")
    for training in (clean, shaken):
        require(training.left() == [], f"files are left: {training.left()}")
    require(done.kills > 0 and all(done.failed_saves.values()) and shaken.count("refused") >= steps // FAULTY_EVERY, f"a fault was not tried: {done}")
    require(clean.count("unsaved") == clean.count("refused") == 0, "the undisturbed training was disturbed")
    for name, memory in memories.items():
        require(memory.last - memory.first < FLAT, f"the memory of the {name} training is not flat: {memory}")
    return {
        "date": str(date.today()),
        "machine": f"{processor()}, {platform.system()}",
        "model and options": " ".join(MODEL),
        "steps": steps,
        "saves every": SAVE_EVERY,
        "kills": done.kills,
        "kills in a save": done.kills_in_a_save,
        "failed saves": done.failed_saves,
        "saves": shaken.count("saved"),
        "refused gradients": shaken.count("refused"),
        "evaluations compared": len(expected),
        "largest difference of a loss": apart,
        "first and last loss": losses,
        "memory": {name: dataclasses.asdict(memory) for name, memory in memories.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="of the disturbed run, about")
    parser.add_argument("--steps", type=int, help="of the training")
    parser.add_argument("--kills", type=int, help="at most; they are spread over half of the time")
    parser.add_argument("--seed", type=int, default=1, help="of the times of the faults")
    parser.add_argument("--alone", action="store_true", help="one training after the other, not both at a time")
    parser.add_argument("--folder", help="where the saves go, a temporary folder of it (the system's)")
    parser.add_argument("--result", type=Path, help="where to write what came out, as JSON")
    chosen = parser.parse_args()
    try:
        result = soak(chosen)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.result:
        chosen.result.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
