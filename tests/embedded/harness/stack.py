"""A bound on the stack that a call takes, from a program's instructions.

Frames are read off the instructions that move the stack pointer; one that is not understood is a failure. Direct calls must not recurse. A call
by address may be of any function of the library whose address is taken, but those that lead back to where it is made: a closure that is handed
down is not called by what it calls.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from .command import run
from .failure import Failure

CONDITION = "(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|hs|lo)?"
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
BRANCH = re.compile(rf"\t(?:b|bl|blx){CONDITION}(?:\.[nw])?\t.*<(.+?)(\+0x[0-9a-f]+)?>$|\tcbn?z\t.*<(.+?)(\+0x[0-9a-f]+)?>$")
CALL = re.compile(rf"\tblx?{CONDITION}(?:\.w)?\t")
BY_ADDRESS = re.compile(rf"\t(?:blx{CONDITION}\t|bx{CONDITION}\t(?!lr))(?:r\d+|sl|fp|ip|lr)\b")
PUSH = re.compile(r"\t(?:push|vpush|stmdb\tsp!,)(?:\.w)?\s*\{(.+)\}")
LOWER = re.compile(rf"\tsub{CONDITION}(?:\.w|w|s)?\tsp, (?:sp, )?#(\d+)")
STORE = re.compile(r"\tv?str(?:d|b|h)?(?:\.w)?\t.*\[sp, #-(\d+)\]!")
# Frames of more than an immediate: a negative constant is loaded and added.
LITERAL = re.compile(r"\tldr\t(r\d+), \[pc, #\d+\]\s*@ \(([0-9a-f]+) ")
ADD = re.compile(r"\tadd\tsp, (r\d+)$")
WORD = re.compile(r"^\s*([0-9a-f]+):\t\.word\t0x([0-9a-f]+)")
# A pointer that is rounded down on its way: at most the alignment is lost.
ALIGN = re.compile(r"\t(?:bfc\tr\d+, #0, #(\d+)|lsls\tr\d+, r\d+, #(\d+)|bic(?:\.w)?\tr\d+, r\d+, #(\d+))")
# The end of a frame, from its pointer.
FROM_FRAME = re.compile(r"\tsubs\t(r\d+), r7, #\d+")
RESTORE = re.compile(r"\tmov\tsp, (r\d+)$")
# What gives the stack back.
RAISE = re.compile(rf"\tadd{CONDITION}(?:\.w|w|s)?\tsp, (?:sp, )?#\d+|\tmov{CONDITION}\tsp, r7\b|\tsub{CONDITION}(?:\.w|w|s)?\tsp, r7, #\d+|\tpop|\tldmia(?:\.w)?\tsp!|\tvpop|\tldr\S*\t.*\[sp\], #")
MOVES = re.compile(r"\t(?:add|sub|mov|and|bic|bfc|lsl)\S*\tsp\b")


@dataclass
class Function:
    frame: int = 0
    calls: set[str] = field(default_factory=set)
    by_address: bool = False


def _bytes_of(registers: str) -> int:
    """What a list of registers takes on the stack."""
    total = 0
    for part in registers.split(","):
        first, _, last = part.strip().partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        total += count * (8 if first.startswith("d") else 4)
    return total


def _functions(lines: list[str]) -> dict[str, Function]:
    words = {match[1]: int(match[2], 16) for line in lines if (match := WORD.match(line))}
    found: dict[str, Function] = {}
    current, name, constants, restored, aligned = Function(), "", {}, set(), 0
    for line in lines:
        if match := FUNCTION.match(line):
            name, constants, restored, aligned = match[1], {}, set(), 0
            current = found.setdefault(name, Function())
            continue
        if match := PUSH.search(line):
            current.frame += _bytes_of(match[1])
        elif match := LOWER.search(line) or STORE.search(line):
            current.frame += int(match[1])
        elif match := LITERAL.search(line):
            constants[match[1]] = words.get(match[2])
        elif match := FROM_FRAME.search(line):
            restored.add(match[1])
        elif (match := RESTORE.search(line)) and match[1] in restored:
            restored.remove(match[1])
        elif match := ALIGN.search(line):
            bits = match[1] or match[2]
            aligned = 1 << int(bits) if bits else int(match[3]) + 1
        elif (match := ADD.search(line)) and (constant := constants.get(match[1])) is not None:
            current.frame += max(0, (1 << 32) - constant if constant >> 31 else 0)
        elif MOVES.search(line) and not RAISE.search(line):
            if not (aligned and "\tmov\tsp" in line):
                raise Failure(f"{name} moves the stack pointer in a way that is not understood: {line.strip()}")
            current.frame += aligned
        if match := BRANCH.search(line):
            # A call of the function's own start is recursion; of its inside, a far jump where the processor has no other.
            target, inside = match[1] or match[3], match[2] or match[4]
            if target != name or (CALL.search(line) and not inside):
                current.calls.add(target)
        if BY_ADDRESS.search(line):
            current.by_address = True
    return found


def _address_taken(program: Path) -> set[str]:
    """Functions whose address is a constant in the program, or is loaded by a pair of instructions: relocations that are no branches."""
    taken = set()
    for line in run(["arm-none-eabi-readelf", "--relocs", "--wide", program]).splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[2] in ("R_ARM_ABS32", "R_ARM_THM_MOVW_ABS_NC", "R_ARM_REL32"):
            taken.add(fields[4])
    return taken


def _graph(program: Path) -> tuple[dict[str, Function], dict[str, set[str]]]:
    functions = _functions(run(["arm-none-eabi-objdump", "--disassemble", "--no-show-raw-insn", program]).splitlines())
    edges = {name: function.calls & functions.keys() for name, function in functions.items()}
    # Those of Rust: the library is given no function of the caller's in the calls that are looked at.
    candidates = sorted(name for name in _address_taken(program) if name in functions and name.startswith(("_R", "_ZN")))

    def leads(start: str, goal: str) -> bool:
        seen, open_ends = set(), [start]
        while open_ends:
            name = open_ends.pop()
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                open_ends.extend(edges[name])
        return False

    for name, function in sorted(functions.items()):
        if function.by_address:
            for candidate in candidates:
                if not leads(candidate, name):
                    edges[name] = edges[name] | {candidate}
    return functions, edges


def bound(program: Path, entries: tuple[str, ...]) -> int:
    """Bytes at most that a call of any of the functions takes. The program is linked with --emit-relocs."""
    functions, edges = _graph(program)
    depths: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise Failure(f"{program.name}: {' calls '.join((*path[path.index(name):], name))}: recursion has no bound")
        if name not in depths:
            if functions[name].by_address and not edges[name] - functions[name].calls:
                raise Failure(f"{program.name}: {name} calls by address, and no function has one")
            depths[name] = functions[name].frame + max((depth(other, (*path, name)) for other in edges[name]), default=0)
        return depths[name]

    if missing := [entry for entry in entries if entry not in functions]:
        raise Failure(f"{program.name} has no function {', '.join(missing)}")
    return max(depth(entry, ()) for entry in entries)
