"""Joins the tables of gpu_times and peers.py into Markdown, and says which targets were reached: report.py TABLE.csv ...."""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

OURS = "klshampoo "
# Peers' KL-Shampoo or SOAP, under whatever name.
SECOND_ORDER = ("KLShampoo", "KLSOAP", "SOAP", "Figure 13")
TITLES = {
    "steps": "Steps, milliseconds",
    "refresh": "Refreshes alone, milliseconds",
    "elementwise": "Kernels that move memory",
    "traffic": "What a step without refreshes moves in passes over elements",
    "rates": "Plain steps beside the best product rate",
    "products": "Products",
    "shapes": "Products of the sets' shapes, by precision",
    "decompositions": "Decompositions of one matrix",
    "golden": "Golden trajectories",
    "memory": "Memory, bytes",
}


def read(paths: list[str]) -> list[dict[str, str]]:
    rows = []
    for path in paths:
        with open(path, newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def number(value: float, unit: str) -> str:
    return f"{value:.0f}" if unit == "bytes" else f"{value:.4g}"


def print_section(section: str, rows: list[dict[str, str]]) -> None:
    print(f"\n## {TITLES.get(section, section)}\n")
    columns = list(dict.fromkeys(f"{row['what']}, {row['unit']}" for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        lines[row["of"], row["who"]][f"{row['what']}, {row['unit']}"] = number(float(row["value"]), row["unit"])
    print("| of | who | " + " | ".join(columns) + " |")
    print("|---|---|" + "---:|" * len(columns))
    for (of, who), cells in sorted(lines.items(), key=lambda line: line[0][0]):
        print(f"| {of} | {who} | " + " | ".join(cells.get(column, "") for column in columns) + " |")


def value(row: dict[str, str]) -> float:
    return float(row["value"])


class Timed(NamedTuple):
    """A number and whose it is."""

    number: float
    who: str


def is_ours(who: str) -> bool:
    """KL-Shampoo in whatever precision."""
    return who.startswith(OURS + "kl_shampoo")


def is_theirs(who: str) -> bool:
    return not who.startswith(OURS) and any(name in who for name in SECOND_ORDER)


class Results:
    """What the tables say, by what the targets are about."""

    def __init__(self, rows: list[dict[str, str]]):
        self.rows = rows

    def of(self, section: str, of: str | None = None) -> list[dict[str, str]]:
        return [row for row in self.rows if row["section"] == section and of in (None, row["of"])]

    def amortised(self, of: str) -> list[Timed]:
        """Milliseconds; how they were stepped is part of the name."""
        prefix = "amortised step"
        return [Timed(value(row), row["who"] + row["what"].removeprefix(prefix)) for row in self.of("steps", of) if row["what"].startswith(prefix)]

    def refreshes(self, of: str) -> list[Timed]:
        return [Timed(value(row), row["who"]) for row in self.of("refresh", of) if value(row) > 0]

    def training_step(self) -> float | None:
        """Milliseconds of a training step of GPT-2 124M with 0.5M tokens: 6 x parameters x tokens at half of the best rate of bf16 products seen."""
        rates = [value(row) for row in self.of("products") if row["who"] == "cuBLAS bf16"]
        rates += [value(row) for row in self.of("rates") if row["who"] == "products bf16"]
        return 6 * 124e6 * 0.5e6 / (0.5 * max(rates) * 1e9) * 1e3 if any(rates) else None

    def bandwidths(self) -> tuple[list[Timed], float | None]:
        """GB/s of our kernels, and of the driver's copy of as many elements."""
        moved = self.of("elementwise")
        copies = [value(row) for row in moved if row["who"] == "the driver's copy"]
        ours = [Timed(value(row), f"{row['who']}, {row['of']}") for row in moved if row["who"] != "the driver's copy"]
        return ours, max(copies, default=None)


def fastest(times: list[Timed], whose: Callable[[str], bool]) -> Timed | None:
    return min((one for one in times if whose(one.who)), default=None)


def print_ratios(results: Results) -> None:
    """The fastest peer's time over ours."""
    lines = []
    for of in dict.fromkeys(row["of"] for row in results.of("steps")):
        here = results.amortised(of)
        ours, peers = fastest(here, is_ours), fastest(here, is_theirs)
        if ours and peers:
            lines.append(f"| amortised step of {of} | {ours.who} | {peers.who} | {peers.number / ours.number:.2f} |")
    for of in dict.fromkeys(row["of"] for row in results.of("refresh")):
        here = results.refreshes(of)
        ours, peers = fastest(here, is_ours), fastest(here, lambda who: not who.startswith(OURS))
        if ours and peers:
            lines.append(f"| refresh of {of} | {ours.who} | {peers.who} | {peers.number / ours.number:.2f} |")
    bandwidths, copy = results.bandwidths()
    if copy:
        lines += [f"| bandwidth | {who} | the driver's copy | {rate / copy:.2f} |" for rate, who in bandwidths]
    if lines:
        print("\n## Ratios\n\nTimes: theirs over ours; bandwidths: ours over theirs.\n")
        print("| of | ours | theirs | ratio |\n|---|---|---|---:|")
        print("\n".join(lines))


class Target(NamedTuple):
    """What was to be reached: a least number, or with `at_most` a largest one."""

    what: str
    bound: float
    unit: str
    at_most: bool = False

    def line(self, found: float | None, of: str) -> str:
        wanted = f"{'under' if self.at_most else 'at least'} {self.bound:g}{self.unit}"
        if found is None:
            return f"| {self.what} | {wanted} | | {of} | NOT MEASURED |"
        reached = found < self.bound if self.at_most else found >= self.bound
        return f"| {self.what} | {wanted} | {found:.3g}{self.unit} | {of} | {'reached' if reached else 'NOT reached'} |"


def against_peers(results: Results, of: str, factor: float) -> list[str]:
    """Each of our ways against the peer that is the fastest."""
    target = Target(f"amortised step of {of}: times as fast as the fastest peer's KL-Shampoo or SOAP", factor, "x")
    here = results.amortised(of)
    peer = fastest(here, is_theirs)
    ours = [one for one in here if is_ours(one.who)]
    if peer is None or not ours:
        return [target.line(None, "no peer's times" if ours else "not timed")]
    return [target.line(peer.number / one.number, f"{one.who}: {one.number:.4g} ms; {peer.who}: {peer.number:.4g} ms") for one in ours]


def targets(results: Results) -> list[str]:
    lines = against_peers(results, "gpt2", 3)

    target = Target("amortised step of gpt2 in a training step of 0.5M tokens", 5, " %", at_most=True)
    training, ours = results.training_step(), [one for one in results.amortised("gpt2") if is_ours(one.who)]
    if training is None or not ours:
        lines.append(target.line(None, "not timed" if not ours else "no rate of bf16 products"))
    else:
        lines += [target.line(100 * number / training, f"{who}: {number:.4g} of {training:.4g} ms") for number, who in ours]

    target = Target("plain step of gpt2: share of the product rate", 60, " %")
    shares = [row for row in results.of("rates", "gpt2") if row["what"] == "share" and is_ours(row["who"])]
    lines += [target.line(100 * value(row), row["who"]) for row in shares] or [target.line(None, "not timed")]

    target = Target("refresh of gpt2: times as fast as torch.linalg.qr of the factors", 5, "x")
    refreshes = results.refreshes("gpt2")
    qr, ours = fastest(refreshes, lambda who: who.startswith("torch.linalg.qr")), [one for one in refreshes if is_ours(one.who)]
    if qr is None or not ours:
        lines.append(target.line(None, "no times of torch.linalg.qr" if ours else "not timed"))
    else:
        lines += [target.line(qr.number / number, f"{who}: {number:.4g} ms; {qr.who}: {qr.number:.4g} ms") for number, who in ours]

    lines += against_peers(results, "c1000", 20)

    target = Target("bandwidth of an elementwise kernel: share of the driver's copy", 85, " %")
    (bandwidths, copy), small = results.bandwidths(), []
    # Sets of a few elements are over before they fill the device.
    bandwidths = [one for one in bandwidths if not one.who.startswith(OURS) or one.who.endswith(", gpt2")]
    if copy:
        small = [target.line(100 * rate / copy, who) for rate, who in bandwidths]
    lines += small or [target.line(None, "not timed")]

    target = Target("error of golden trajectories in f32: times that of the references' f32 runs on a CPU", 10, "x", at_most=True)
    # What f32 is allowed there is ten times the error of the references' own f32 runs, on a CPU.
    shares = [value(row) for row in results.of("golden")]
    lines.append(target.line(10 * max(shares), "the run that is farthest off") if shares else target.line(None, "not run"))
    return lines


def print_targets(results: Results) -> None:
    print("\n## Targets\n\n| target | to reach | measured | of | |\n|---|---|---:|---|---|")
    print("\n".join(targets(results)))


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = read(sys.argv[1:])
    results = Results(rows)
    print_targets(results)
    print_ratios(results)
    for section in dict.fromkeys(row["section"] for row in rows):
        print_section(section, [row for row in rows if row["section"] == section])


if __name__ == "__main__":
    main()
