"""A file of the spool: events, one a line, behind a first line that says how far they are settled.

Its owner holds a lock on it (flock), which the kernel lets go when the owner dies, however it dies; whoever then gets
the lock goes on where the owner stopped. Written through the page cache: it outlives the process, not the machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from usage_service.client.outgoing import is_readable
from usage_service.client.queues import MOST_BATCH_BYTES, Batch

SUFFIX = ".spool"
HEADER_BYTES = 21  # an offset in 20 digits and a line feed


class Segment:
    """One locked file. Appending and settling are not for two threads at once; reading may go on beside appending."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._unsynced = False
        self.size = os.fstat(fd).st_size
        self.settled = self._read_header()

    @classmethod
    def create(cls, directory: Path) -> Segment:
        """A new file; raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = directory / f"{time.time_ns():020}-{os.getpid()}-{token_hex(4)}{SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            # Another process may take it for an orphan before it is locked here: then that one deletes it.
            if _lock(fd):
                segment = cls(path, fd)
                segment._reset()
                return segment

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """The file of an owner that is dead; None when it is alive or the file is gone. Raises OSError."""
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        return cls(path, fd) if _lock(fd) else None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be sent."""
        return self.settled >= self.size

    def append(self, line: bytes) -> None:
        """Adds a line; raises OSError and is as before when it cannot."""
        written = os.pwrite(self._fd, line, self.size)
        if written < len(line):
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unsynced = True
        self.size += len(line)

    def read(self, most_events: int) -> Batch:
        """The oldest lines that are not settled; what is no event is left out and counted."""
        wanted = min(MOST_BATCH_BYTES, self.size - self.settled)
        chunk = os.pread(self._fd, wanted, self.settled)
        lines = chunk.split(b"\n", most_events)
        rest = lines.pop()
        if not lines:  # a last line that was torn, or something that is no line at all
            return Batch([], self.settled + len(chunk) if chunk else self.size, 1)
        good = [line for line in lines if is_readable(line)]
        return Batch(good, self.settled + len(chunk) - len(rest), len(lines) - len(good))

    def settle(self, end: int) -> None:
        """Remembers that all before `end` need not be sent again."""
        self.settled = end
        os.pwrite(self._fd, b"%020d\n" % end, 0)
        if self.is_settled:
            self._reset()

    def count_lines(self) -> int:
        """How many lines are not settled."""
        return os.pread(self._fd, self.size - self.settled, self.settled).count(b"\n")

    def sync(self) -> None:
        """Waits until what was appended would outlive the machine; raises OSError."""
        if self._unsynced:
            self._unsynced = False
            os.fdatasync(self._fd)

    def delete(self) -> None:
        """Deletes the file and lets it go."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets the file go; another process may adopt what is in it."""
        os.close(self._fd)

    def _read_header(self) -> int:
        digits = os.pread(self._fd, HEADER_BYTES - 1, 0)
        settled = int(digits) if digits.isdigit() else 0
        # Past the end: the owner was killed between emptying the file and saying so.
        return settled if HEADER_BYTES <= settled <= self.size else min(HEADER_BYTES, self.size)

    def _reset(self) -> None:
        os.ftruncate(self._fd, 0)
        self.size = self.settled = os.pwrite(self._fd, b"%020d\n" % HEADER_BYTES, 0)


def _lock(fd: int) -> bool:
    """Whether the file is now ours; closes it if not. Raises OSError where files cannot be locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    except OSError:
        os.close(fd)
        raise
    if os.fstat(fd).st_nlink == 0:  # deleted by its last owner since it was opened
        os.close(fd)
        return False
    return True
