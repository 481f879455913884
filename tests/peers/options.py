"""The command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import settings
from contenders import ADAPTERS
from tensor_sets import SETS


@dataclass
class Options:
    sets: list[str]
    threads: list[int]
    steps: int
    rounds: int
    limit: float
    peers: list[str]
    csv: Path | None
    venv: Path
    install: dict[str, str]
    library: Path | None
    mkl_as_on_intel: bool


def names(known: list[str], what: str):
    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(f"no {what} {', '.join(unknown) or 'given'}; there are {', '.join(known)}")
        return list(dict.fromkeys(chosen))

    return parse


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def thread_counts(text: str) -> list[int]:
    return list(dict.fromkeys(at_least_1(one) for one in text.split(",")))


def periods(text: str) -> int:
    steps = at_least_1(text)
    if steps % settings.PERIOD:
        raise argparse.ArgumentTypeError(
            f"{steps} is not a multiple of {settings.PERIOD}, the refresh period: rounds would differ in refreshes"
        )
    return steps


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def requirement(text: str) -> tuple[str, str]:
    name, equals, wanted = text.partition("=")
    if not (name and equals and wanted):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=REQUIREMENT, such as emerging-optimizers=/path/to/its/sources")
    return name, wanted


def file_to_write(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: its folder is missing, or it is one")
    return path


def existing_file(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path


def parse(target: Path) -> Options:
    parser = argparse.ArgumentParser(
        description="Times klshampoo and its PyTorch peers against each other in one run and prints the ratios.",
        epilog="sets: " + "; ".join(f"{one.name}: {one.title}" for one in SETS.values()),
    )
    known = list(SETS)
    parser.add_argument("--sets", type=names(known, "set"), default=known, metavar="A,B", help="sets of tensors (all)")
    parser.add_argument("--threads", type=thread_counts, default=[1, 2], metavar="N,M", help="one process for each of these numbers (1,2)")
    parser.add_argument("--steps", type=periods, default=30, help="timed steps of a round, a multiple of the refresh period (%(default)s)")
    parser.add_argument("--rounds", type=at_least_1, default=3, help="rounds in which all take turns; the best one counts (%(default)s)")
    parser.add_argument(
        "--limit",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="most time for one contender's warm-up, and for its steps in a round (%(default)s)",
    )
    parser.add_argument("--peers", type=names(ADAPTERS, "peer"), default=ADAPTERS, metavar="P,Q", help=f"of {', '.join(ADAPTERS)} (all)")
    parser.add_argument("--csv", type=file_to_write, help="write all rows here too")
    parser.add_argument("--venv", type=Path, default=target / "peers-venv", help="virtual environment, made if it is missing (%(default)s)")
    parser.add_argument(
        "--install",
        type=requirement,
        action="append",
        default=[],
        metavar="NAME=REQUIREMENT",
        help="install a peer from elsewhere: a version, a folder, an address, as pip takes them",
    )
    parser.add_argument("--library", type=existing_file, help="time this build of the shared library instead of building it")
    parser.add_argument(
        "--mkl-as-on-intel",
        action="store_true",
        help="let torch's MKL use its fastest kernels on processors of others too, which it does not do by itself (Linux)",
    )
    chosen = parser.parse_args()
    return Options(**vars(chosen) | {"install": dict(chosen.install)})
