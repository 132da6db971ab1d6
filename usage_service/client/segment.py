"""A file of the spool: one event a line, after a first line that says how far they are settled.

The process that owns the file holds a lock on it (flock). The kernel releases the lock when the owner dies, however it
dies; the process that then gets the lock goes on where the owner stopped. The file is written through the page cache:
it outlives the process, not the machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex

from usage_service.client.outgoing import is_readable
from usage_service.client.queues import MOST_BATCH_BYTES, Batch

SUFFIX = ".spool"
HEADER_BYTES = 21  # an offset in 20 digits and a line feed


class Segment:
    """A locked file. Two threads must not append or settle at once; reading may go on beside appending."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._unsynced = False
        self.size = os.fstat(fd).st_size
        self.settled = self._read_header()

    @classmethod
    def create(cls, directory: Path) -> Segment:
        """Make a new file in the directory, and lock it. Raise OSError when that cannot be done."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = directory / f"{time.time_ns():020}-{os.getpid()}-{token_hex(4)}{SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            with ExitStack() as undoing:
                undoing.callback(os.close, fd)
                undoing.callback(path.unlink, missing_ok=True)
                # Another process may adopt it as an orphan before it is locked here.
                if _lock(fd):
                    segment = cls(path, fd)
                    segment._reset()
                    undoing.pop_all()
                    return segment

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Take over the file of a dead owner; return None when its owner lives or the file is gone. Raise OSError."""
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        with ExitStack() as undoing:
            undoing.callback(os.close, fd)
            if not _lock(fd):
                return None
            segment = cls(path, fd)
            undoing.pop_all()
            return segment

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is left to be sent."""
        return self.settled >= self.size

    def append(self, line: bytes) -> None:
        """Add a line. Raise OSError when it cannot be written; the file is then as before."""
        written = os.pwrite(self._fd, line, self.size)
        if written < len(line):
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unsynced = True
        self.size += len(line)

    def read(self, most_events: int) -> Batch:
        """Return the oldest lines that are not settled; lines that are no events are left out and counted."""
        wanted = min(MOST_BATCH_BYTES, self.size - self.settled)
        chunk = os.pread(self._fd, wanted, self.settled)
        lines = chunk.split(b"\n", most_events)
        rest = lines.pop()
        if not lines:  # a last line that was torn, or something that is no line at all
            return Batch([], self.settled + len(chunk) if chunk else self.size, 1)
        good = [line for line in lines if is_readable(line)]
        return Batch(good, self.settled + len(chunk) - len(rest), len(lines) - len(good))

    def settle(self, end: int) -> None:
        """Store in the file that nothing before the offset `end` need be sent again; empty it where that is all."""
        self.settled = end
        if self.is_settled:
            self._reset()
        else:
            os.pwrite(self._fd, b"%020d\n" % end, 0)

    def count_lines(self) -> int:
        """Count the lines that are not settled."""
        return os.pread(self._fd, self.size - self.settled, self.settled).count(b"\n")

    def sync(self) -> None:
        """Wait until the lines that were appended are on the disk. Raise OSError when that fails."""
        if self._unsynced:
            self._unsynced = False
            getattr(os, "fdatasync", os.fsync)(self._fd)  # macOS has the latter only

    def delete(self) -> None:
        """Delete the file and close it, also where it cannot be deleted. Raise OSError then."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, which unlocks it; another process may adopt the events in it."""
        os.close(self._fd)

    def _read_header(self) -> int:
        digits = os.pread(self._fd, HEADER_BYTES - 1, 0)
        settled = int(digits) if digits.isdigit() else 0
        # Past the end: the machine stopped while the file was on its way to the disk.
        return settled if HEADER_BYTES <= settled <= self.size else min(HEADER_BYTES, self.size)

    def _reset(self) -> None:
        # The header first, over the old one: a file without one needs room, which a full disk may not have any more.
        os.pwrite(self._fd, b"%020d\n" % HEADER_BYTES, 0)
        os.ftruncate(self._fd, HEADER_BYTES)
        self.size = self.settled = HEADER_BYTES


def _lock(fd: int) -> bool:
    """Lock the file and return whether that succeeded. Raise OSError where files cannot be locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0  # else deleted by its last owner since it was opened
