"""What ends a program of the run."""


class Failure(Exception):
    """Something is not as it must be; the text says what."""
