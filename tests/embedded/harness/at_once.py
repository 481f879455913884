"""Work that waits for compilers and emulators of one thread, done by as many threads as there are processors."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def each(function: Callable[[Any], Any], items: Iterable) -> list:
    """What a function makes of each item, in their order. The first failure is raised, when all have ended."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(function, items))
