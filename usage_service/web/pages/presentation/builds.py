"""Numbers of the queue of builds, and the parameters of their statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from usage_service.builds.listing import BuilderState, QueuePlace, QueueState
from usage_service.builds.requests import PENDING


class QueueShown(NamedTuple):
    """Number of builds by state (those that are over: of the last day), bytes they read, and the longest wait."""

    states: dict[str, int]
    bytes: float
    oldest_seconds: float

    @property
    def pending(self) -> int:
        """Return the number of builds that are not over."""
        return sum(self.states.get(state, 0) for state in PENDING)


class Waiting(NamedTuple):
    """What a build waits for: its place in the queue, and the builders."""

    place: QueuePlace
    builders: BuilderState

    @property
    def seconds(self) -> float | None:
        """Return about how long it takes until the build is done; None when no builder is there or nothing tells."""
        ahead, typical, own = self.place
        if not self.builders.alive or typical is None or own is None:
            return None
        return ahead * typical / self.builders.alive + own


def queue_shown(states: Iterable[QueueState]) -> QueueShown:
    """Return the numbers of prefetched and requested builds together."""
    counts: Counter[str] = Counter()
    read = oldest = 0.0
    for state in states:
        counts[state.state] += state.builds
        read, oldest = read + state.bytes, max(oldest, state.oldest_seconds)
    return QueueShown(dict(counts), read, oldest)


def parameters_shown(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the name of each parameter of a statement and its value as people write it."""
    return [{"name": one.get("name", ""), "value": _value(one.get("parameterValue", {}))} for one in parameters]


def _value(given: Mapping[str, Any]) -> str:
    if "arrayValues" in given:
        return ", ".join(_value(one) for one in given["arrayValues"])
    return str(given.get("value", ""))
