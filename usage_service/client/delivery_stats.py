"""Counts of the events that a process recorded, by what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Stats(NamedTuple):
    """Numbers of events (`retries`: of requests) since this process started.

    Once everything is settled, recorded = sent + duplicates + refused, unless events of an earlier process were
    adopted, which count as sent here though they were recorded there.
    """

    recorded: int
    sent: int
    duplicates: int
    refused: int
    dropped: int
    unreadable: int
    queued: int
    spooled: int
    retries: int


@dataclass
class DeliveryStats:
    """The counters behind Stats; `recorded` and `dropped` change under the worker's lock, the rest in its thread."""

    recorded: int = 0
    sent: int = 0
    duplicates: int = 0
    refused: int = 0
    dropped: int = 0
    unreadable: int = 0
    retries: int = 0

    def snapshot(self, queued: int, spooled: int) -> Stats:
        """Return the counts as they are now, with how many events wait in memory and on disk."""
        return Stats(queued=queued, spooled=spooled, **vars(self))
