"""Joins the tables of gpu_times and peers.py into Markdown: report.py TABLE.csv ...."""

import csv
import sys
from collections import defaultdict

OURS = "klshampoo "
# Peers' KL-Shampoo or SOAP, under whatever name.
SECOND_ORDER = ("KLShampoo", "KLSOAP", "SOAP", "Figure 13")
TITLES = {
    "steps": "Steps, milliseconds",
    "refresh": "Refreshes alone, milliseconds",
    "elementwise": "Kernels that move memory",
    "traffic": "What a step without refreshes moves in passes over elements",
    "products": "Products",
    "shapes": "Products of the sets' shapes, by precision",
    "decompositions": "Decompositions of one matrix",
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


def print_ratios(rows: list[dict[str, str]]) -> None:
    """The fastest peer's time over ours."""
    steps = [row for row in rows if row["section"] == "steps" and row["what"].startswith("amortised step")]
    lines = []
    for of in dict.fromkeys(row["of"] for row in steps):
        here = [(float(row["value"]), row["who"] + row["what"].removeprefix("amortised step")) for row in steps if row["of"] == of]
        ours = min((one for one in here if one[1].startswith(OURS + "kl_shampoo")), default=None)
        peers = min((one for one in here if not one[1].startswith(OURS) and any(name in one[1] for name in SECOND_ORDER)), default=None)
        if ours and peers:
            lines.append(f"| amortised step of {of} | {ours[1]} | {peers[1]} | {peers[0] / ours[0]:.2f} |")
    refreshes = [row for row in rows if row["section"] == "refresh"]
    for of in dict.fromkeys(row["of"] for row in refreshes):
        here = [(float(row["value"]), row["who"]) for row in refreshes if row["of"] == of]
        ours = min((one for one in here if one[1] == OURS + "kl_shampoo" and one[0] > 0), default=None)
        peers = min((one for one in here if not one[1].startswith(OURS)), default=None)
        if ours and peers:
            lines.append(f"| refresh of {of} | {ours[1]} | {peers[1]} | {peers[0] / ours[0]:.2f} |")
    lines += training_share(rows, steps)
    moved = {row["who"]: float(row["value"]) for row in rows if row["section"] == "elementwise"}
    copy = moved.get("the driver's copy")
    if copy:
        lines += [f"| bandwidth | {who} | the driver's copy | {rate / copy:.2f} |" for who, rate in moved.items() if who != "the driver's copy"]
    if lines:
        print("\n## Ratios\n\nTimes: theirs over ours; shares and bandwidths: ours over theirs.\n")
        print("| of | ours | theirs | ratio |\n|---|---|---|---:|")
        print("\n".join(lines))


def training_share(rows: list[dict[str, str]], steps: list[dict[str, str]]) -> list[str]:
    """Of a training step of GPT-2 124M with 0.5M tokens: 6 x parameters x tokens at half of the best rate of bf16 products seen."""
    rate = max((float(row["value"]) for row in rows if row["section"] == "products" and row["who"] == "cuBLAS bf16"), default=0)
    ours = min((float(row["value"]) for row in steps if row["of"] == "gpt2" and row["who"] == OURS + "kl_shampoo"), default=None)
    if not rate or ours is None:
        return []
    milliseconds = 6 * 124e6 * 0.5e6 / (0.5 * rate * 1e9) * 1e3
    return [f"| amortised step of gpt2 in percent of a training step | {ours:.4g} ms | {milliseconds:.4g} ms | {100 * ours / milliseconds:.2f} |"]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = read(sys.argv[1:])
    print_ratios(rows)
    for section in dict.fromkeys(row["section"] for row in rows):
        print_section(section, [row for row in rows if row["section"] == section])


if __name__ == "__main__":
    main()
