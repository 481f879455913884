"""What happens to saves: the disk is full, the folder is gone."""

import resource
import time
from pathlib import Path

from trainer import Process

ROOM = 5000  # Bytes, less than any file of a training.
PATIENCE = 60.0  # Seconds for a save to come.


def _until_unsaved(process: Process) -> bool:
    """Waits for a save that fails."""
    before, end = process.count("unsaved"), time.monotonic() + PATIENCE
    while process.runs() and time.monotonic() < end:
        if process.count("unsaved") > before:
            return True
        time.sleep(0.005)
    return False


def full_disk(process: Process, _: Path) -> bool:
    """A file of the process can have no more than so many bytes."""
    try:
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (ROOM, hard))
        try:
            return _until_unsaved(process)
        finally:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    except ProcessLookupError:
        return False


def no_folder(process: Process, folder: Path) -> bool:
    """The folder of the saves is elsewhere."""
    away = folder.with_name(folder.name + ".away")
    folder.rename(away)
    try:
        return _until_unsaved(process)
    finally:
        away.rename(folder)


ALL = {"full disk": full_disk, "no folder": no_folder}
