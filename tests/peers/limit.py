"""A limit on how long a contender may work, between two calls into compiled code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OverLimit(BaseException):
    """Not an Exception: what peers do about their own failures must not catch it."""


def ring(number: int, frame: object) -> None:
    raise OverLimit


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
