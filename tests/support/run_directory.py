"""The directory of a run's PostgreSQL: in memory where there is plenty, as to make files costs less there."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/dev/shm")
PREFIX = "usage-tests-"
PLENTY = 4 * 1024**3  # bytes; a run takes a tenth
CLUSTER = "postgres"


def make() -> Path:
    """Make the directory, and remove those of runs that were killed."""
    has_plenty = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > PLENTY
    place = MEMORY if has_plenty else Path(tempfile.gettempdir())
    for left in place.glob(f"{PREFIX}*"):
        if _is_left(left):
            remove(left)
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))


def remove(directory: Path) -> None:
    """Remove it, unless another run has done so just now."""
    shutil.rmtree(directory, ignore_errors=True)


def _is_left(directory: Path) -> bool:
    """Tell whether a server was started there, and none runs: it would hold the lock."""
    with suppress(OSError), (directory / CLUSTER / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
