"""Files that may be gzipped, and files that outlive a power cut once they are written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

MOST_LINE_BYTES = 1 << 20


def sync_directory(path: Path) -> None:
    """Write the names in a directory to the disk, such as that of a file just moved into it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class OpenFile(NamedTuple):
    """A file unpacked, its first line, its size in bytes on disk, and a function for how many of those were read."""

    unpacked: BinaryIO
    first_line: bytes
    size: int
    bytes_read: Callable[[], int]


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """Open a file to read, unpacked if it is gzipped."""
    with path.open("rb") as raw:
        size, packed = path.stat().st_size, raw.peek(2)[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw) as unpacked:
            first_line = unpacked.readline(MOST_LINE_BYTES)
            unpacked.seek(0)
            yield OpenFile(cast(BinaryIO, unpacked), first_line, size, raw.tell)
