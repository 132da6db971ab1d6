"""Make once for all workers of a run what takes longer to make than to copy."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of that name, which the first who asks has made; nobody may change it.

    What was half made when its maker failed is made again.
    """
    base = factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # each worker's own folder is in that of the run
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / name).exists():
            begun = factory.mktemp(name)
            make(begun)
            begun.rename(run / name)
    return run / name
