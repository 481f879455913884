"""A bound on the stack that a call takes, from a program's instructions: no function may recurse, and calls by address may be of anything
whose address is taken."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from .command import run
from .failure import Failure

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
CONDITION = "(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|hs|lo)?"
BRANCH = re.compile(rf"\t(?:b|bl|blx){CONDITION}(?:\.[nw])?\t.*<(.+?)(\+0x[0-9a-f]+)?>$|\tcbn?z\t.*<(.+?)(\+0x[0-9a-f]+)?>$")
CALL = re.compile(rf"\tblx?{CONDITION}(?:\.w)?\t")
BY_ADDRESS = re.compile(rf"\t(?:blx|bx){CONDITION}\tr\d+")
PUSH = re.compile(r"\t(?:push|vpush|stmdb\tsp!,|stmfd\tsp!,)\s*(?:\.w)?\s*\{(.+)\}")
LOWER = re.compile(r"\tsub(?:\.w|w|s)?\tsp, (?:sp, )?#(\d+)")
STORE = re.compile(r"\tstr(?:d)?(?:\.w)?\t.*\[sp, #-(\d+)\]!")


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


def _functions(program: Path) -> dict[str, Function]:
    found: dict[str, Function] = {}
    current, name = Function(), ""
    for line in run(["arm-none-eabi-objdump", "--disassemble", "--no-show-raw-insn", program]).splitlines():
        if match := FUNCTION.match(line):
            name = match[1]
            current = found.setdefault(name, Function())
            continue
        if match := PUSH.search(line):
            current.frame += _bytes_of(match[1])
        if match := LOWER.search(line) or STORE.search(line):
            current.frame += int(match[1])
        if match := BRANCH.search(line):
            # A branch to the function's own start would be a call of itself; one to its inside is a loop.
            target = match[1] or match[3]
            if target != name or CALL.search(line):
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


def bound(program: Path, entry: str) -> int:
    """Bytes at most that a call of `entry` takes. The program is linked with --emit-relocs."""
    functions, taken = _functions(program), _address_taken(program)
    if entry not in functions:
        raise Failure(f"{program.name} has no function {entry}")
    # Those of Rust: the library is given no function of the caller's in these calls.
    callable_by_address = {name for name in taken if name in functions and name.startswith("_R")}
    depths: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise Failure(f"{program.name}: {' calls '.join((*path[path.index(name):], name))}: recursion has no bound")
        if name not in depths:
            function = functions.get(name, Function())
            called = function.calls & functions.keys()
            if function.by_address:
                # Those that lead here would be a loop that only the analysis sees: what is on the path cannot be its own closure.
                called |= {other for other in callable_by_address if other not in path and other != name}
            depths[name] = function.frame + max((depth(other, (*path, name)) for other in called), default=0)
        return depths[name]

    return depth(entry, ())
