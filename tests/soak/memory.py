"""Memory of a process over its life: is it flat?"""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL = 0.05  # Seconds.
# The minima of so many parts of equal length: a save needs memory for a moment. The first parts, in which the process gets what it keeps, are left out.
PARTS, FIRST_PARTS = 40, 10


@dataclass(frozen=True)
class Report:
    """Bytes, at the start and the end of the line through the minima, and per minute."""

    seconds: float
    first: int
    last: int
    per_minute: float
    highest: int


class Watch:
    """Samples a process' resident memory from now until it ends."""

    def __init__(self, pid: int):
        self._path, self._samples, self._done = Path(f"/proc/{pid}/statm"), [], threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._done.wait(INTERVAL):
            try:
                resident = int(self._path.read_text().split()[1]) * PAGE
            except (OSError, IndexError):
                return
            if resident > 0:  # A process that has ended and was not waited for has none.
                self._samples.append((time.monotonic(), resident))

    def report(self) -> Report | None:
        """Nothing of a process that has lived too short."""
        self._done.set()
        self._thread.join()
        if len(self._samples) < 4 * PARTS:
            return None
        size = len(self._samples) / PARTS
        parts = [self._samples[int(size * i):int(size * (i + 1))] for i in range(FIRST_PARTS, PARTS)]
        points = [(part[len(part) // 2][0], min(resident for _, resident in part)) for part in parts]
        mean_time, mean = (sum(values) / len(points) for values in zip(*points))
        slope = sum((t - mean_time) * (r - mean) for t, r in points) / sum((t - mean_time) ** 2 for t, _ in points)
        line = [round(mean + slope * (t - mean_time)) for t in (points[0][0], points[-1][0])]
        return Report(round(points[-1][0] - points[0][0], 1), line[0], line[1], round(60 * slope, 1), max(resident for _, resident in self._samples))
