"""Counts of the events that a process recorded, by what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Stats(NamedTuple):
    """Numbers of events (`retries`: of requests) since this process started.

    Once everything is settled, recorded = sent + duplicates + refused, unless events of an earlier process were
    adopted, which count as sent here though they were recorded there. `dropped` is the sum of the four after it.
    """

    recorded: int
    sent: int
    duplicates: int
    refused: int
    dropped: int
    dropped_full: int
    dropped_wrong: int
    dropped_too_long: int
    dropped_closed: int
    unreadable: int
    queued: int
    spooled: int
    retries: int


@dataclass
class DeliveryStats:
    """The counters behind Stats; `recorded` and drops change under the worker's lock, the others in its thread."""

    recorded: int = 0
    sent: int = 0
    duplicates: int = 0
    refused: int = 0
    dropped_full: int = 0
    dropped_wrong: int = 0
    dropped_too_long: int = 0
    dropped_closed: int = 0
    unreadable: int = 0
    retries: int = 0

    @property
    def dropped(self) -> int:
        """Return how many events were dropped, for whatever reason."""
        return self.dropped_full + self.dropped_wrong + self.dropped_too_long + self.dropped_closed

    def snapshot(self, queued: int, spooled: int) -> Stats:
        """Return the counts as they are now, with how many events wait in memory and on disk."""
        return Stats(dropped=self.dropped, queued=queued, spooled=spooled, **vars(self))
