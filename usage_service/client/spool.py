"""The spool: queues of events on disk, which outlive the process that recorded them."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from usage_service.client.queues import Batch
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.client.segment import HEADER_BYTES, SUFFIX, Segment

LARGEST_SEGMENT = 1024 * 1024
SMALLEST_SEGMENT = 4 * 1024
REST_SECONDS = 5.0  # before a spool that failed or was full is tried again


class Spool:
    """The queue of this process's own segments, oldest first; events are added to the last.

    The bound holds for the whole directory: each file in it counts as a full segment, whichever process owns it. `put`,
    `settle` and `close` are called under the worker's lock.
    """

    def __init__(self, directory: Path, most_bytes: int, log: RateLimitedLog) -> None:
        self.entered = self.left = 0
        self._directory = directory
        self._most_bytes = most_bytes
        self._segment_bytes = max(SMALLEST_SEGMENT, min(LARGEST_SEGMENT, most_bytes // 8))
        self._log = log
        self._segments: deque[Segment] = deque()
        self._rests_until = 0.0

    def put(self, line: bytes) -> bool:
        """Write an event to disk, and return False when the spool is full or cannot be written."""
        if self._rests_until and time.monotonic() < self._rests_until:
            return False
        try:
            segment = self._segment_for(len(line))
            if segment is None:
                self._rest("spool_full", f"{self._most_bytes} bytes are taken")
                return False
            segment.append(line)
        except OSError as error:
            self._rest("spool_unusable", str(error.strerror))
            return False
        self.entered += 1
        return True

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest events on disk, or None. Raise OSError when they cannot be read."""
        segment = self._segments[0] if self._segments else None
        return segment.read(most_events) if segment and not segment.is_settled else None

    def settle(self, batch: Batch) -> None:
        """Remove the batch that was taken last, and delete a segment that is settled to its end."""
        segment = self._segments[0]
        segment.settle(batch.end)
        if segment.is_settled and len(self._segments) > 1:
            self._segments.popleft().delete()
        drained = self._segments[0].is_settled
        self.left = self.entered if drained else self.left + len(batch.lines) + batch.unreadable

    def sync(self) -> None:
        """Wait until all events are on the disk. Raise OSError when that fails."""
        for segment in list(self._segments):
            segment.sync()

    def close(self) -> None:
        """Delete the segments that are settled to their end, and leave the others to the next process."""
        while self._segments:
            segment = self._segments.popleft()
            if segment.is_settled:
                segment.delete()
            else:
                segment.close()

    def abandon(self) -> None:
        """Close the parent's files in a forked child, without a change to them."""
        while self._segments:
            self._segments.popleft().close()

    def _segment_for(self, size: int) -> Segment | None:
        last = self._segments[-1] if self._segments else None
        if last and last.size + size <= self._segment_bytes:
            return last
        if last and last.is_settled:
            return last  # empty: however long the event, it has to fit somewhere
        if self._bytes_taken() + max(self._segment_bytes, size + HEADER_BYTES) > self._most_bytes:
            return None
        self._segments.append(Segment.create(self._directory))
        return self._segments[-1]

    def _bytes_taken(self) -> int:
        if not self._directory.is_dir():
            return 0
        sizes = (_size(path) for path in self._directory.glob("*" + SUFFIX))
        return sum(max(size, self._segment_bytes) for size in sizes)

    def _rest(self, event: str, why: str) -> None:
        self._rests_until = time.monotonic() + REST_SECONDS
        self._log.warn(event, why=why, instead="memory", spool_dir=self._directory)


class Orphans:
    """The queue of segments whose owners are dead.

    They are adopted one at a time, so that processes which start together share them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._segment: Segment | None = None
        self.pending = 0

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest events of the adopted segment, adopting one if need be. Raise OSError."""
        while self._segment is None or self._segment.is_settled:
            self._release()
            if not self._adopt():
                return None
        return self._segment.read(most_events)

    def settle(self, batch: Batch) -> None:
        """Remove the batch that was taken last."""
        if self._segment:
            self._segment.settle(batch.end)
            self.pending = max(0, self.pending - len(batch.lines) - batch.unreadable)

    def close(self) -> None:
        """Leave the events that were not sent to the next process."""
        self._release()

    def abandon(self) -> None:
        """Close the parent's file in a forked child, without a change to it."""
        if self._segment:
            self._segment.close()
            self._segment = None

    def _release(self) -> None:
        segment, self._segment, self.pending = self._segment, None, 0
        if segment and segment.is_settled:
            segment.delete()
        elif segment:
            segment.close()

    def _adopt(self) -> bool:
        for path in sorted(self._directory.glob("*" + SUFFIX)):
            with suppress(OSError):  # not ours to read: the others may be
                self._segment = Segment.adopt(path)
            if self._segment:
                self.pending = self._segment.count_lines()
                return True
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
