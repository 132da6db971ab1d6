"""Segments whose owner is dead: adopted one at a time, so that processes which start together share them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from usage_service.client.queues import Batch
from usage_service.client.segment import SUFFIX, Segment


class Orphans:
    """What earlier processes left in the spool's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._segment: Segment | None = None
        self.pending = 0

    def take(self, most_events: int) -> Batch | None:
        """The oldest events of the adopted segment, adopting one if need be; raises OSError."""
        while self._segment is None or self._segment.is_settled:
            self._let_go()
            if not self._adopt():
                return None
        return self._segment.read(most_events)

    def settle(self, batch: Batch) -> None:
        """Forgets the oldest events."""
        if self._segment:
            self._segment.settle(batch.end)
            self.pending = max(0, self.pending - len(batch.lines) - batch.unreadable)

    def close(self) -> None:
        """Leaves what was not sent to the next process."""
        self._let_go()

    def abandon(self) -> None:
        """In a forked child: lets the parent's file go."""
        if self._segment:
            self._segment.close()
            self._segment = None

    def _let_go(self) -> None:
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
