"""Disks that are full."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from chaos.faults.fault import Fault, needs_root
from chaos.stack import Ground, Stack

VOLUME_MB = 1_200
SMALL_LOG = {"max_wal_size": "192MB", "min_wal_size": "80MB"}


def mount(exits: ExitStack, path: Path) -> None:
    """Mount a small file system in memory."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MB}m,mode=0755", "tmpfs", str(path)], check=True)
    exits.callback(subprocess.run, ["umount", "-l", str(path)], check=False)


def everything(exits: ExitStack, directory: Path) -> None:
    """Have the whole cluster on a small file system."""
    mount(exits, directory / "postgres")


def tables(exits: ExitStack, directory: Path) -> None:
    """Have the tables on a small file system, and the write-ahead log elsewhere."""
    mount(exits, directory / "postgres" / "cluster" / "base")


def filling(volume: str) -> Callable[[Stack], AbstractContextManager[None]]:
    """Return a fault that fills the file system at a path to the last byte."""

    @contextmanager
    def fill_up(stack: Stack) -> Iterator[None]:
        ballast = stack.directory / volume / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))
        yield
        ballast.unlink()

    return fill_up


FAULTS = (
    Fault(
        "tables-full", "the disk of the tables is full, that of the write-ahead log is not",
        filling("postgres/cluster/base"), ground=Ground(prepare=tables, postgres=SMALL_LOG), missing=needs_root,
    ),
    Fault(
        "disk-full", "the disk is full for the write-ahead log too: PostgreSQL ends, and starts when there is space",
        filling("postgres"), ground=Ground(prepare=everything, postgres=SMALL_LOG), missing=needs_root,
    ),
)  # fmt: skip
