"""The spool: events on disk, so that they outlive the process that recorded them."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from usage_service.client.queues import Batch
from usage_service.client.rate_limited_log import Notes
from usage_service.client.segment import HEADER_BYTES, SUFFIX, Segment

LARGEST_SEGMENT = 1024 * 1024
SMALLEST_SEGMENT = 4 * 1024
REST_SECONDS = 5.0  # before a spool that failed or was full is tried again


class Spool:
    """This process's own segments, oldest first, events being added to the last.

    The bound holds for the whole directory: each file in it counts as a full segment, whoever owns it. `put`, `settle`
    and `close` are called under the worker's lock.
    """

    def __init__(self, directory: Path, most_bytes: int, notes: Notes) -> None:
        self.entered = self.left = 0
        self._directory = directory
        self._most_bytes = most_bytes
        self._segment_bytes = max(SMALLEST_SEGMENT, min(LARGEST_SEGMENT, most_bytes // 8))
        self._notes = notes
        self._segments: deque[Segment] = deque()
        self._rests_until = 0.0

    def put(self, line: bytes) -> bool:
        """Writes an event to disk; False when the spool is full or cannot be written."""
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
        """The oldest events on disk; raises OSError when they cannot be read."""
        segment = self._segments[0] if self._segments else None
        return segment.read(most_events) if segment and not segment.is_settled else None

    def settle(self, batch: Batch) -> None:
        """Forgets the oldest events; deletes a segment that is done with."""
        segment = self._segments[0]
        segment.settle(batch.end)
        if segment.is_settled and len(self._segments) > 1:
            self._segments.popleft().delete()
        drained = self._segments[0].is_settled
        self.left = self.entered if drained else self.left + len(batch.lines) + batch.unreadable

    def sync(self) -> None:
        """Waits until everything would outlive the machine; raises OSError."""
        for segment in list(self._segments):
            segment.sync()

    def close(self) -> None:
        """Deletes what is done with, and leaves the rest to the next process."""
        while self._segments:
            segment = self._segments.popleft()
            if segment.is_settled:
                segment.delete()
            else:
                segment.close()

    def abandon(self) -> None:
        """In a forked child: lets the parent's files go, without a change to them."""
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
        self._notes.warn(event, why=why, instead="memory", spool_dir=self._directory)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
