#!/usr/bin/env python3
"""Builds and runs the firmware programs under QEMU, and checks what they say.

    python3 tests/embedded/run.py                # all
    python3 tests/embedded/run.py train microbit # some
    python3 tests/embedded/run.py --list
    python3 tests/embedded/run.py --install      # installs missing Debian packages first

Needs Python 3.11. Anything that is missing or not as it should be is a failure.
"""

import argparse
import sys
import time

from harness import toolchain
from harness.failure import Failure
from harness.programs import ALL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"programs: {', '.join(ALL)}; all by default")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--install", action="store_true", help="install missing Debian packages")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(ALL):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if chosen.list:
        for name, program in ALL.items():
            print(f"{name:10} {program.__doc__}")
        return 0
    try:
        toolchain.provide(chosen.install)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1

    failures, seconds = {}, {}
    for name in chosen.names or ALL:
        print(f"\n== {name}: {ALL[name].__doc__}", flush=True)
        start = time.monotonic()
        try:
            ALL[name].run()
        except Failure as failure:
            failures[name] = str(failure)
            print(f"FAILED: {failure}")
        seconds[name] = time.monotonic() - start

    print()
    for name, time_taken in seconds.items():
        print(f"{name:10} {time_taken:6.1f} s  {'FAILED: ' + failures[name] if name in failures else 'ok'}")
    print(f"\n{len(seconds) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
