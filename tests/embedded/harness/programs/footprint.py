"""What each method takes of flash, RAM, stack and instructions on each processor: FOOTPRINT.md says it, within 3 %."""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import at_once, boards, build, elf, stack
from ..command import run as execute
from ..failure import Failure
from ..paths import EMBEDDED, ROOT, TARGET

SOURCES = EMBEDDED / "footprint"
DOCUMENT = EMBEDDED / "FOOTPRINT.md"
FIGURES = SOURCES / "figures.json"
TOLERANCE = 0.03
LIMIT = 600  # Seconds of a probe.
SHAPES = ((8, 8), (16, 32), (32, 32), (64, 32))
# What a firmware that trains calls; making, stepping.
MAKING = ("kls_config_init", "kls_tensor_init", "kls_optimizer_query", "kls_optimizer_init")
STEP = "kls_optimizer_step"


@dataclass(frozen=True)
class Method:
    name: str
    features: tuple[str, ...]
    constant: str


METHODS = (
    Method("KL-Shampoo", ("kl-shampoo",), "KLS_METHOD_KL_SHAMPOO"),
    Method("KL-SOAP", ("kl-soap",), "KLS_METHOD_KL_SOAP"),
    Method("SOAP", ("soap",), "KLS_METHOD_SOAP"),
    Method("Shampoo", ("shampoo",), "KLS_METHOD_SHAMPOO"),
    Method("VN-Shampoo 2", ("vn-shampoo",), "KLS_METHOD_VN_SHAMPOO_2"),
    Method("F-Shampoo 2", ("f-shampoo",), "KLS_METHOD_F_SHAMPOO_2"),
    Method("AdamW", ("adamw",), "KLS_METHOD_ADAMW"),
    Method("SGD", ("sgd",), "KLS_METHOD_SGD"),
    Method("KL-Shampoo, everything built in", ("all",), "KLS_METHOD_KL_SHAMPOO"),
)


# What a run compares: all of them take minutes, and what changes one changes these.
COMPARED = ("KL-Shampoo", "SOAP", "KL-Shampoo, everything built in")


@dataclass(frozen=True)
class Processor:
    """What the probe is compiled for. It runs on a board whose processor knows these instructions and has the memory."""

    name: str
    target: str
    board: boards.Board
    options: tuple[str, ...]


SOFT, HARD = ("-mthumb", "-mfloat-abi=soft"), ("-mthumb", "-mfloat-abi=hard")
PROCESSORS = (
    Processor("Cortex-M4F, M7", "thumbv7em-none-eabihf", boards.M4F, ("-mcpu=cortex-m4", *HARD, "-mfpu=fpv4-sp-d16")),
    Processor("Cortex-M33", "thumbv8m.main-none-eabihf", boards.M33, ("-mcpu=cortex-m33", *HARD, "-mfpu=fpv5-sp-d16")),
    Processor("Cortex-M0", "thumbv6m-none-eabi", boards.M4F, ("-mcpu=cortex-m0", *SOFT)),
)


def _plugin(folder: Path) -> Path:
    plugin = folder / "count.so"
    execute(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", SOURCES / "count.c", "-o", plugin])
    return plugin


def _code(library: Path, folder: Path) -> dict[str, int]:
    """Bytes of what a firmware that trains links of the library, linked by itself."""
    part = folder / "part.elf"
    undefined = [f"--undefined={name}" for name in (*MAKING, STEP)]
    execute(["arm-none-eabi-ld", "--gc-sections", "--entry", STEP, *undefined, library, "-o", part])
    size = elf.sections(part)
    return {"text": size[".text"], "constants": size.get(".rodata", 0) + size.get(".data", 0)}


def _probe(processor: Processor, method: Method, shape: tuple[int, int], library: Path, folder: Path) -> Path:
    program = folder / "probe.elf"
    defines = [f"-DROWS={shape[0]}", f"-DCOLUMNS={shape[1]}", f"-DMETHOD={method.constant}", "-DKLS_NO_HOST"]
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-nostartfiles", "--specs=nano.specs", f"-I{ROOT / 'include'}"]
    link = [f"-L{processor.board.folder}", f"-T{SOURCES / 'probe.ld'}", "-Wl,--gc-sections,--emit-relocs,-z,noexecstack"]
    execute(["arm-none-eabi-gcc", *processor.options, *options, *defines, SOURCES / "probe.c", library, *link, "-lgcc", "-o", program])
    return program


def _run(processor: Processor, program: Path, plugin: Path) -> tuple[dict[str, int], list[int]]:
    """What the probe says, and the instructions of its steps."""
    address = {}
    for line in execute(["arm-none-eabi-nm", program]).splitlines():
        value, _, name = line.split()
        address[name] = value
    runner = [part for part in processor.board.runner if part not in ("-icount", "shift=6")]
    at = runner.index("-kernel")
    line = [*runner[:at], "-plugin", f"{plugin},begin={address['step_begins']},end={address['step_ends']}", *runner[at:], str(program)]
    try:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise Failure(f"the probe is not done after {LIMIT} s") from None
    lines = [match.groups() for match in re.finditer(r"^([a-z_]+) (\d+)$", done.stdout, re.MULTILINE)]
    says = {name: int(number) for name, number in lines if name != "instructions"}
    counts = [int(number) for name, number in lines if name == "instructions"]
    if says.get("status") != 0 or len(counts) != 20:
        raise Failure(f"the probe of {program.name} failed:\n{done.stdout}")
    return says, counts


def measure(only: tuple[str, ...] = ()) -> dict:
    """Everything, by processor and method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugin = _plugin(folder)
        rows = at_once.each(lambda processor: _measure(processor, only, plugin, folder / processor.target), PROCESSORS)
        return {processor.name: row for processor, row in zip(PROCESSORS, rows, strict=True)}


def _measure(processor: Processor, only: tuple[str, ...], plugin: Path, folder: Path) -> dict:
    """Everything of a processor, by method."""
    folder.mkdir()
    rows: dict = {}
    for method in METHODS:
        if only and method.name not in only:
            continue
        library = build.library(processor.target, method.features)
        row = rows.setdefault(method.name, _code(library, folder))
        for shape in SHAPES:
            program = _probe(processor, method, shape, library, folder)
            says, counts = _run(processor, program, plugin)
            # Ten steps from the eleventh on: nine plain ones and the second refresh.
            row["x".join(map(str, shape))] = {
                "state": says["state"],
                "scratch": says["scratch"],
                "table": says["table"],
                "stack making": says["stack_init"],
                "stack stepping": max(says["stack_other"], says["stack_refresh"]),
                "plain": counts[10],
                "refresh": counts[19],
                "mean": sum(counts[10:]) // 10,
            }
        row["stack bound making"] = stack.bound(program, MAKING)
        row["stack bound stepping"] = stack.bound(program, (STEP,))
        print(f"{processor.name}, {method.name}: {row['text']} bytes of code", flush=True)
    return rows


def _paper(rows: int, columns: int) -> int:
    """Bytes of KL-Shampoo's state by Table 1 of the paper, in f32: factors, bases, eigenvalues, momentum."""
    return 4 * (2 * (rows * rows + columns * columns) + rows + columns + rows * columns)


def document(figures: dict) -> str:
    lines = [
        "# Footprint",
        "",
        "What the C library takes where only one method is linked: code and constants of what a firmware that trains calls",
        f"({', '.join((*MAKING, STEP))}), linked by itself; the",
        "deepest stack that was measured, and a bound on it for matrices of any size, from the call graph; instructions that were executed, counted one",
        "by one by QEMU, of a plain step, of one with a refresh, and of a step on average with a refresh every 10 steps. They are instructions, not cycles.",
        "Built with Debian's Rust 1.96, the profile `embedded`, core compiled along, panics that abort at once; the M0 computes in software. Its code is",
        "counted on the board of the M4F, which runs it too and has the memory for these shapes.",
        "",
        "`python3 tests/embedded/footprint.py` measures all of it and writes this file; `python3 tests/embedded/run.py footprint` compares some of the methods.",
        "",
        "## State and scratch",
        "In bytes, without the 64-byte header of a slice. The paper is Table 1 of \"Understanding and Improving Shampoo and SOAP via Kullback-Leibler",
        "Minimization\": KL-Shampoo, with whole squares for the factors.",
        "",
        "| method | " + " | ".join("x".join(map(str, shape)) + ": state, scratch" for shape in SHAPES) + " |",
        "|---|" + "---|" * len(SHAPES),
        "| the paper | " + " | ".join(f"{_paper(*shape):,}" for shape in SHAPES) + " |",
    ]
    first = next(iter(figures.values()))
    for method, row in first.items():
        if "everything" in method:
            continue
        cells = [row["x".join(map(str, shape))] for shape in SHAPES]
        lines.append(f"| {method} | " + " | ".join(f"{cell['state'] - 64:,}, {cell['scratch']:,}" for cell in cells) + " |")
    making = max(cell["table"] for row in first.values() for key, cell in row.items() if isinstance(cell, dict))
    lines += ["", f"One optimizer with one group and one tensor takes at most {making:,} bytes besides, without a heap."]
    for processor, rows in figures.items():
        target = next(one.target for one in PROCESSORS if one.name == processor)
        lines += [
            "",
            f"## {processor} (`{target}`)",
            "",
            "| method | code | constants | stack making | stack stepping, 16x32 | any size | 8x8: plain, refresh, mean | 16x32 | 32x32 | 64x32 |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for method, row in rows.items():
            cells = [row["x".join(map(str, shape))] for shape in SHAPES]
            making = max(cell["stack making"] for cell in cells)
            counts = " | ".join(f"{cell['plain']:,}, {cell['refresh']:,}, {cell['mean']:,}" for cell in cells)
            lines.append(
                f"| {method} | {row['text']:,} | {row['constants']:,} | {making:,}, at most {row['stack bound making']:,} | "
                f"{row['16x32']['stack stepping']:,} | {row['stack bound stepping']:,} | {counts} |"
            )
    return "\n".join(lines) + "\n"


def _differences(expected, found, place: str = "") -> list[str]:
    if isinstance(expected, dict):
        if not isinstance(found, dict) or expected.keys() != found.keys():
            return [f"{place}: other entries"]
        return [line for key in expected for line in _differences(expected[key], found[key], f"{place}, {key}".removeprefix(", "))]
    # What is reckoned and not compiled is the same to the byte.
    exact = place.endswith(("state", "scratch", "table"))
    if abs(found - expected) <= (0 if exact else TOLERANCE * expected):
        return []
    return [f"{place}: {found:,} instead of {expected:,}"]


def check_promises(figures: dict) -> None:
    """What is promised of KL-Shampoo alone on a Cortex-M4F, for a matrix of 16 x 32."""
    row = figures["Cortex-M4F, M7"]["KL-Shampoo"]
    cell = row["16x32"]
    promises = {
        "bytes of code and constants": (row["text"] + row["constants"], 48 * 1024),
        "bytes of state and a header": (cell["state"], 10_016 + 64),
        "bytes of stack in a step": (cell["stack stepping"], 2048 - 1),
        "instructions per step, with a refresh every 10": (cell["mean"], 300_000 - 1),
    }
    if broken := [f"{found:,} {what}, not at most {most:,}" for what, (found, most) in promises.items() if found > most]:
        raise Failure("\n  ".join(broken))


def write() -> None:
    figures = measure()
    check_promises(figures)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    DOCUMENT.write_text(document(figures))


def run() -> None:
    if not (FIGURES.is_file() and DOCUMENT.is_file()):
        raise Failure(f"{DOCUMENT.name} or {FIGURES.name} is missing: run footprint.py")
    committed = json.loads(FIGURES.read_text())
    check_promises(committed)
    if DOCUMENT.read_text() != document(committed):
        raise Failure(f"{DOCUMENT.name} is not what {FIGURES.name} says: run footprint.py")
    measured = measure(COMPARED)
    check_promises(measured)
    expected = {processor: {method: rows[method] for method in COMPARED} for processor, rows in committed.items()}
    if differences := _differences(expected, measured):
        raise Failure("other figures than those committed (python3 tests/embedded/footprint.py writes them anew):\n  " + "\n  ".join(differences))
    print(f"the figures of {'; '.join(COMPARED)} are those of {DOCUMENT.name}, within {TOLERANCE:.0%}")
