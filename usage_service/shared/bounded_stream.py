"""A text stream that neither blocks nor fails, which takes the place of stderr in every program.

Logs, warnings, tracebacks and what libraries print to stderr go through it, because all of them would otherwise stop a
program whose reader stalls, and end one whose reader or disk is gone. `logging.handlers.QueueListener` has no bound in
bytes, prints its own errors to the same stderr, and sees nothing of what is not logged.

Nothing but the standard library is imported here: it is in place before anything else is loaded.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread

MOST_BYTES = 1024 * 1024
FLUSH_SECONDS = 0.5
CLOSE_SECONDS = 2.0
CHUNK_BYTES = 64 * 1024


class BoundedStream(io.TextIOBase):
    """A stream on a descriptor: a thread writes what waits in a bounded buffer, and the rest is dropped and counted.

    Once lines can be written again, `tell` is called with the number of those that were dropped.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, most_bytes: int = MOST_BYTES) -> None:
        self.dropped_lines = 0
        self.tell_dropped: Callable[[int], None] = self._tell
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        # Its lock is re-entrant: the garbage collector may run something that writes while this thread holds it.
        self._changed = Condition()
        self._waiting: list[bytes] = []
        self._size = 0  # of what waits and what is being written
        self._told = 0
        self._stalled = False
        self._cut = False  # the last line was written in part
        self._closing = False
        Thread(target=self._run, name="bounded stream", daemon=True).start()

    def write(self, text: str) -> int:
        """Take the text, or drop it when the buffer is full."""
        data = text.encode(self.encoding, self.errors)
        with self._changed:
            if self._closing or self._size + len(data) > self._most_bytes:
                self.dropped_lines += data.count(b"\n")
            else:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Wait until all is written, but not for long, and not at all for a reader that stalls."""
        if not self._stalled:
            self._stalled = not self._drained(FLUSH_SECONDS)

    def close(self) -> None:
        """Wait until all is written, for CLOSE_SECONDS at most, and take no more. The descriptor stays open."""
        self._drained(CLOSE_SECONDS)
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def writable(self) -> bool:
        """Return True: it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def _drained(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                data, self._waiting = b"".join(self._waiting), []
            written = self._write(data)
            with self._changed:
                self._size -= len(data)
                self._stalled = False
                self.dropped_lines += data.count(b"\n", written)
                dropped = self.dropped_lines - self._told
                if dropped and written == len(data):
                    self._told = self.dropped_lines
                    with suppress(Exception):  # this thread is the last to have an error that nobody sees
                        self.tell_dropped(dropped)
                self._changed.notify_all()

    def _write(self, data: bytes) -> int:
        """Write the data, and return how many bytes of it were written before an error."""
        written = 0
        try:
            if self._cut:
                self._write_some(b"\n")
            while written < len(data):
                written += self._write_some(data[written : written + CHUNK_BYTES])
        except OSError:
            pass
        if written:
            self._cut = not data.endswith(b"\n", 0, written)
        return written

    def _write_some(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process has made it non-blocking
                select.select([], [self._descriptor], [])

    def _tell(self, dropped: int) -> None:
        self.write(f"{dropped} lines that could not be written were dropped\n")


def replace_stderr() -> None:
    """Put a bounded stream in the place of stderr until the process ends.

    A standard descriptor that is closed is opened on /dev/null first: the next connection would take its number, and
    would be sent the logs.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:  # Python's, for a descriptor that was closed when it started
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), line_buffering=True)
    before = sys.stderr
    stream = BoundedStream(2)
    sys.stderr = stream

    def restore() -> None:
        stream.close()
        sys.stderr = before

    atexit.register(restore)


def dropped_lines() -> int:
    """Return how many lines of this process's stderr were dropped."""
    return sys.stderr.dropped_lines if isinstance(sys.stderr, BoundedStream) else 0
