#!/usr/bin/env python3
"""Measures what the library takes of flash, RAM, stack and instructions, and writes FOOTPRINT.md."""

import sys

from harness import toolchain
from harness.failure import Failure
from harness.programs import footprint

if __name__ == "__main__":
    try:
        toolchain.provide(install="--install" in sys.argv[1:])
        footprint.write()
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
