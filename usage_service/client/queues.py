"""Queues of events that wait to be sent, and the one in memory."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple, Protocol

MOST_BATCH_BYTES = 768 * 1024  # the service takes a body of 1 MiB


class Batch(NamedTuple):
    """The oldest events of a queue, each without its line feed; `end` tells the queue where they end."""

    lines: list[bytes]
    end: int
    unreadable: int = 0


class Queue(Protocol):
    """A first-in, first-out queue; events that were taken stay until they are settled."""

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest events, MOST_BATCH_BYTES at most, or None when there are none; for one thread only."""
        ...

    def settle(self, batch: Batch) -> None:
        """Remove the batch that was taken last."""
        ...


class OwnQueue(Queue, Protocol):
    """A queue of this process's own events; `entered` and `left` count them."""

    entered: int
    left: int

    def put(self, line: bytes) -> bool:
        """Add an event at the end, and return whether it could be kept."""
        ...


class MemoryQueue:
    """A queue in memory, gone with the process. When it is full, newer events are refused."""

    def __init__(self, most_events: int) -> None:
        self.entered = self.left = 0
        self._most_events = most_events
        self._lines: deque[bytes] = deque()

    def put(self, line: bytes) -> bool:
        """Add an event at the end, and return False when the queue is full."""
        if len(self._lines) >= self._most_events:
            return False
        self._lines.append(line[:-1])
        self.entered += 1
        return True

    def take(self, most_events: int) -> Batch | None:
        """Return the oldest events, or None when there are none."""
        lines: list[bytes] = []
        size = 0
        # Others may append meanwhile, which ends an iteration over a deque: the copy is one step.
        for line in list(islice(self._lines.copy(), most_events)):
            size += len(line) + 1
            if size > MOST_BATCH_BYTES:
                break
            lines.append(line)
        return Batch(lines, len(lines)) if lines else None

    def settle(self, batch: Batch) -> None:
        """Remove the events of the batch that was taken last."""
        for _ in range(batch.end):
            self._lines.popleft()
        self.left += batch.end
