"""What is run: a module each, with a function `run` that raises Failure."""

from . import big_endian, checksum, footprint, host, library, microbit, train, train_c

ALL = {
    "host": host,
    "train": train,
    "train-c": train_c,
    "microbit": microbit,
    "checksum": checksum,
    "big-endian": big_endian,
    "library": library,
    "footprint": footprint,
}
