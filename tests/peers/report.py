"""Tables and CSV from the measuring processes' results. Started by run.py."""

import argparse
import csv
import platform
import time
from pathlib import Path
from textwrap import shorten

from tabulate import tabulate

import settings
from contenders import CONTENDERS, PLAIN, REFERENCE, Contender
from job import MEASURED, Result, Row, SetResult
from tensor_sets import RATE_SIZE, SETS

REASON = 90  # characters of a reason in a table; the list below it has all of them
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def best(row: Row) -> float:
    """Seconds of a step: the least of the rounds' means."""
    return min(row.means)


def spread(row: Row) -> float:
    return max(row.means) / best(row) - 1


def measured(result: SetResult, name: str) -> Row | None:
    return next((row for row in result.rows if row.contender == name and row.status == MEASURED), None)


def same_method(result: SetResult, contender: Contender) -> Row | None:
    """Ours of the contender's method."""
    names = (one.name for one in CONTENDERS if one.ours and one.method == contender.method and not one.only_floor)
    return measured(result, next(names))


def ratio(row: Row, to: Row | None) -> float | None:
    return best(row) / best(to) if to else None


def lines(result: Result) -> list[dict]:
    """All rows of one process, as they go to the CSV."""
    found = []
    for one in result.sets:
        reference = measured(one, REFERENCE)
        for row in one.rows:
            contender = BY_NAME[row.contender]
            line = {
                "threads": result.threads,
                "set": one.name,
                "tensors": SETS[one.name].title,
                "contender": row.contender,
                "version": result.versions.get(contender.package or ("klshampoo" if contender.ours else "torch"), ""),
                "method": contender.method,
                "torch_gflops": one.rates["torch"],
                "faer_gflops": one.rates["faer"],
                "status": row.status,
                "reason": row.reason,
            }
            if row.status == MEASURED:
                line |= {
                    "ms_per_step": 1e3 * best(row),
                    "spread": spread(row),
                    "ratio_to_kl_shampoo": ratio(row, reference),
                    "ratio_to_same_method": ratio(row, same_method(one, contender)),
                    "worst_over_mean_step": min(row.bursts),
                    "state_bytes": row.state_bytes or None,
                }
            found.append(line | {"steps": result.steps, "rounds": result.rounds, "differs": contender.differs})
    return found


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def set_table(result: Result, one: SetResult) -> str:
    shown = []
    for line in (line for line in lines(result) if line["set"] == one.name):
        if line["status"] == MEASURED:
            shown.append(
                [
                    line["contender"],
                    line["method"],
                    format(line["ms_per_step"], ".3f"),
                    format(line["spread"], ".0%"),
                    number(line["ratio_to_kl_shampoo"], ".2f"),
                    number(line["ratio_to_same_method"], ".2f"),
                    "",
                ]
            )
        else:
            shown.append(
                [line["contender"], line["method"], "-", "-", "-", "-", f"{line['status'].upper()}: {shorten(line['reason'], REASON)}"]
            )
    headers = ["contender", "method", "ms/step", "spread", "/ our KL-Shampoo", "/ ours, same method", "not measured because"]
    return tabulate(shown, headers, tablefmt="github", disable_numparse=True, colalign=["left", "left"] + ["right"] * 4 + ["left"])


def fastest_peers(results: list[Result]) -> str:
    """The budget's question: the fastest KL-Shampoo among the peers, whatever it is made of."""
    shown = []
    for result in results:
        for one in result.sets:
            reference = measured(one, REFERENCE)
            peers = [row for row in one.rows if row.status == MEASURED and not BY_NAME[row.contender].ours]
            for kind, rows in {
                "KL-Shampoo": [row for row in peers if BY_NAME[row.contender].method == "KL-Shampoo"],
                "published KL-Shampoo": [
                    row for row in peers if BY_NAME[row.contender].method == "KL-Shampoo" and BY_NAME[row.contender].package
                ],
            }.items():
                if not reference or SETS[one.name].worst_step:
                    continue
                first = min(rows, key=best, default=None)
                found = [first.contender, f"{1e3 * best(first):.3f}", f"{ratio(first, reference):.2f}"] if first else ["none ran", "-", "-"]
                shown.append([result.threads, one.name, SETS[one.name].title, f"{1e3 * best(reference):.3f}", kind, *found])
    headers = ["threads", "set", "tensors", "our KL-Shampoo, ms", "fastest peer of", "is", "ms", "ratio"]
    return tabulate(shown, headers, tablefmt="github", disable_numparse=True)


def floor_table(results: list[Result]) -> str:
    shown = []
    for result in results:
        for one in (one for one in result.sets if SETS[one.name].floor):
            amortised, plain = measured(one, REFERENCE), measured(one, PLAIN)
            rate = max(one.rates.values())
            floor = 2.5 * SETS[one.name].product_flops() / (1e9 * rate)
            row = [result.threads, one.name, *(f"{one.rates[name]:.1f}" for name in ("faer", "torch")), f"{1e3 * floor:.3f}"]
            if amortised and plain:
                refresh = (best(amortised) - best(plain)) * settings.PERIOD
                bound = floor + refresh / settings.PERIOD
                times = [f"{1e3 * best(plain):.3f}", f"{best(plain) / floor:.2f}", f"{1e3 * refresh:.3f}"]
                row += [*times, f"{1e3 * best(amortised):.3f}", f"{best(amortised) / bound:.2f}"]
            else:
                row += ["not measured"] * 5
            shown.append(row)
    headers = [
        "threads",
        "set",
        "faer, GFLOP/s",
        "torch, GFLOP/s",
        "floor 2.5 P / rate, ms",
        "plain step, ms",
        "/ floor",
        "refresh, ms",
        "amortised step, ms",
        "/ (floor + refresh / T)",
    ]
    return tabulate(shown, headers, tablefmt="github", disable_numparse=True)


def worst_step_table(results: list[Result]) -> str:
    shown = []
    for result in results:
        for one in (one for one in result.sets if SETS[one.name].worst_step):
            row = measured(one, REFERENCE)
            figures = (
                [f"{1e3 * best(row):.3f}", f"{min(row.bursts):.3f}", f"{row.phase_burst:.3f}", f"{row.flop_burst:.3f}"]
                if row
                else ["not measured"] * 4
            )
            shown.append([result.threads, one.name, SETS[one.name].title, *figures])
    headers = [
        "threads",
        "set",
        "tensors",
        "mean step, ms",
        "worst / mean, best round",
        "worst / mean phase of the period, medians",
        "worst / mean in flops",
    ]
    return tabulate(shown, headers, tablefmt="github", disable_numparse=True)


def not_measured(results: list[Result]) -> list[str]:
    """Every cell that is missing, equal reasons together."""
    cells: dict[tuple[str, str], list[str]] = {}
    for line in (line for result in results for line in lines(result) if line["status"] != MEASURED):
        cells.setdefault((line["contender"], f"{line['status'].upper()}: {line['reason']}"), []).append(
            f"{line['set']} x {line['threads']}"
        )
    return [f"- {contender} ({', '.join(where)}): {reason}" for (contender, reason), where in cells.items()]


def differences(results: list[Result]) -> str:
    names = dict.fromkeys(row.contender for result in results for one in result.sets for row in one.rows)
    shown = [[name, BY_NAME[name].differs] for name in names if not BY_NAME[name].ours]
    return tabulate(shown, ["peer", "how it differs from ours of that method"], tablefmt="github")


def rates(one: SetResult) -> str:
    """The peers' products are torch's, ours are faer's."""
    return f"Products of {RATE_SIZE}x{RATE_SIZE}x{RATE_SIZE}: torch {one.rates['torch']:.0f} GFLOP/s, faer {one.rates['faer']:.0f} GFLOP/s."


def processor() -> str:
    described = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in described.read_text().splitlines() if line.startswith("model name")]
        if described.exists()
        else []
    )
    return f"{len(models)} cores of {models[0]}" if models else platform.machine()


def print_all(results: list[Result]) -> None:
    first = results[0]
    print(f"\n{time.strftime('%Y-%m-%d')}, {processor()}, float32, T = {settings.PERIOD}")
    print(f"best of {first.rounds} round(s) of {first.steps} steps")
    print(", ".join(f"{name} {version}" for name, version in first.versions.items()))
    for note in dict.fromkeys(note for result in results for note in result.notes):
        print(note)
    for result in results:
        for one in result.sets:
            if not SETS[one.name].worst_step:
                print(f"\n## {one.name}: {SETS[one.name].title}, {result.threads} thread(s)\n\n{rates(one)}\n\n{set_table(result, one)}")
        if not result.finished:
            print(f"\nUNFINISHED: {result.threads} thread(s): the process ended before its last set")
    print(f"\n## The fastest peer's KL-Shampoo against ours\n\n{fastest_peers(results)}")
    present = {one.name for result in results for one in result.sets}
    if any(SETS[name].floor for name in present):
        print(f"\n## Our KL-Shampoo against the floor of its products\n\n{floor_table(results)}")
    if any(SETS[name].worst_step for name in present):
        print(f"\n## The worst of our steps\n\n{worst_step_table(results)}")
    missing = not_measured(results)
    if missing:
        print("\n## Not measured (set x threads)\n", *missing, sep="\n")
    print(f"\n## What peers do differently\n\n{differences(results)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path)
    chosen = parser.parse_args()
    results = [Result.load(path) for path in chosen.results]
    if chosen.csv:
        table = [line for result in results for line in lines(result)]
        fields = list(dict.fromkeys(field for line in table for field in line))
        with open(chosen.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(table)
    print_all(results)


if __name__ == "__main__":
    main()
