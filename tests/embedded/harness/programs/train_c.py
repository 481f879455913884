"""The same training in C, with power cuts and errors: the weights are those of an undisturbed run, bit for bit, and of the program in Rust."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import boards, build, memory, qemu
from ..boards import Board
from ..failure import Failure
from . import train

POWER_FAILED = 75  # Exit code.
BOARD = boards.M4F
OTHER_BOARDS = (boards.M7, boards.M33)
# Of the disturbed runs: a save every 20 steps.
STEPS = 120
ERASURES = 16  # Of a save, before everything else.


@dataclass(frozen=True)
class Device:
    """A board with its flash, which outlives the starts."""

    board: Board
    program: Path
    folder: Path

    def start(self, *arguments: str, code: int = 0) -> str:
        return qemu.run(self.board, self.program, arguments, cwd=self.folder, code=code)

    def start_until_the_power_fails(self, *arguments: str) -> None:
        self.start(f"steps={STEPS}", *arguments, code=POWER_FAILED)

    def start_and_pull_the_plug(self, after: str) -> None:
        """Kills QEMU when the program has said something, wherever it is by then."""
        line = qemu.command(self.board, self.program, (f"steps={STEPS}",))
        process = subprocess.Popen(line, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            for said in process.stdout:
                print(said, end="", flush=True)
                if after in said:
                    print("the plug is pulled")
                    return
        finally:
            process.kill()
            process.wait()
        raise Failure(f"the program has not said: {after}")

    def go_on(self, expected: str) -> str:
        """Starts again, and ends the training. It begins where it must, as a pattern says: after the last save that was whole."""
        output = self.start(f"steps={STEPS}")
        found(f"({expected})", output)
        return output


def found(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if not match:
        raise Failure(f"the program has not said: {pattern}")
    return match[1]


def checksum(output: str) -> str:
    return found(r"^checksum: ([0-9a-f]{8})$", output)


def in_flash(at: int, expected: str):
    """The power fails in an operation of the flash."""

    def story(device: Device) -> str:
        device.start_until_the_power_fails(f"power-fails-at={at}")
        return device.go_on(expected)

    return story


def after_step(step: int, expected: str):
    def story(device: Device) -> str:
        device.start_until_the_power_fails(f"power-fails-after={step}")
        return device.go_on(expected)

    return story


def again_and_again(save: int):
    """Each start makes one save and dies in the next one, at another place each time."""

    def story(device: Device) -> str:
        for twelfths in (1, 4, 7, 11):
            device.start_until_the_power_fails(f"power-fails-at={save + save * twelfths // 12}")
        return device.go_on("goes on after step 80,")

    return story


def plug(device: Device) -> str:
    device.start_and_pull_the_plug("step 60 is saved")
    # It may have come some steps further before it was killed.
    return device.go_on("^goes on after step (?:60|80|100|120),")


def disturbances(save: int) -> dict:
    """What may happen. A save has this many operations of the flash; the fourth one is that after step 80."""
    third = 3 * save
    return {
        "errors are made": lambda device: device.start(f"steps={STEPS}", "errors"),
        "the power fails before the first save": after_step(7, "starts"),
        "between saves": after_step(75, "goes on after step 60,"),
        "in the first save": in_flash(save // 2, "starts"),
        "in an erasure": in_flash(third + ERASURES // 2, "goes on after step 60,"),
        "in the first 8 bytes of a save": in_flash(third + ERASURES + 1, "goes on after step 60,"),
        "in the middle of a save": in_flash(third + save // 2, "goes on after step 60,"),
        "in the label of a save": in_flash(third + save - 1, "goes on after step 60,"),
        "in the last 8 bytes of a save": in_flash(third + save, "goes on after step 60,"),
        "in the operation after a save": in_flash(third + save + 1, "goes on after step 80,"),
        "again and again": again_and_again(save),
        "the plug is pulled": plug,
    }


def run() -> None:
    program = build.c(BOARD)
    memory.check(program)
    with tempfile.TemporaryDirectory() as name:

        def scene(what: str, story, board: Board = BOARD) -> str:
            """Something happens to a device with an empty flash."""
            print(f"-- {what}")
            folder = Path(name) / what.replace(" ", "-")
            folder.mkdir()
            return story(Device(board, program if board is BOARD else build.c(board), folder))

        def shorter(device: Device) -> str:
            return device.start(f"steps={STEPS}")

        whole = scene("the whole training", lambda device: device.start())
        if checksum(whole) != train.kl_shampoo_checksum():
            raise Failure(f"the weights are not those of the program in Rust, {train.kl_shampoo_checksum()}")
        undisturbed = scene("a shorter one", shorter)
        for board in OTHER_BOARDS:
            if checksum(scene(f"on {board.name}", shorter, board)) != checksum(undisturbed):
                raise Failure(f"other weights on {board.name}")
        save = int(found(r"^step 20 is saved, by (\d+) operations of the flash$", undisturbed))
        stories = disturbances(save)
        for what, story in stories.items():
            if checksum(scene(what, story)) != checksum(undisturbed):
                raise Failure(f"{what}: other weights than in an undisturbed run")
    print(f"the weights are those of the program in Rust: checksum {checksum(whole)}")
    print(f"{len(stories)} disturbed runs end with the weights of an undisturbed one: checksum {checksum(undisturbed)}")
