"""The queue of builds in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from usage_service.builds.listing import QueueState
from usage_service.builds.requests import PENDING


class QueueShown(NamedTuple):
    """How many builds are in each state (over: within a day), what they read, how long the oldest waits."""

    states: dict[str, int]
    bytes: float
    oldest_seconds: float

    @property
    def pending(self) -> int:
        """How many are not over."""
        return sum(self.states.get(state, 0) for state in PENDING)


def queue_shown(states: Iterable[QueueState]) -> QueueShown:
    """Whether somebody waits for them or not, together."""
    counts: Counter[str] = Counter()
    read = oldest = 0.0
    for state in states:
        counts[state.state] += state.builds
        read, oldest = read + state.bytes, max(oldest, state.oldest_seconds)
    return QueueShown(dict(counts), read, oldest)
