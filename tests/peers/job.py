"""What a measuring process is told, and what it answers; both travel as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Job:
    threads: int
    sets: list[str]
    adapters: list[str]
    steps: int
    rounds: int
    limit: float  # seconds that the steps of one contender in one round may take
    library: str
    product_rate: str
    unavailable: dict[str, str]  # package: why it could not be installed
    result: str
    log: str  # tracebacks
    preload: str = ""  # a library that is loaded before MKL, see build.mkl_as_on_intel

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(path: Path) -> "Job":
        return Job(**json.loads(path.read_text()))


MEASURED = "measured"
FAILED = "failed"
NOT_AVAILABLE = "not available"
DOES_NOT_APPLY = "does not apply"
TOO_SLOW = "too slow"


@dataclass
class Row:
    """One contender on one set."""

    contender: str
    status: str = MEASURED
    reason: str = ""
    # Mean seconds of a step, one per round.
    means: list[float] = field(default_factory=list)
    # The slowest step over the mean one, one per round.
    bursts: list[float] = field(default_factory=list)
    # The same over the phases of a period: each phase's median first, which an interruption does not move.
    phase_burst: float = 0.0
    # The same of the predicted operations.
    flop_burst: float = 0.0
    state_bytes: int = 0


@dataclass
class SetResult:
    name: str
    rows: list[Row]
    # GFLOP/s, the best of the rounds.
    rates: dict[str, float]


@dataclass
class Result:
    threads: int
    steps: int
    rounds: int
    versions: dict[str, str]
    notes: list[str]
    sets: list[SetResult] = field(default_factory=list)
    finished: bool = False

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(path: Path) -> "Result":
        data = json.loads(path.read_text())
        data["sets"] = [SetResult(one["name"], [Row(**row) for row in one["rows"]], one["rates"]) for one in data["sets"]]
        return Result(**data)
