"""Funnel: in how many sessions people took some steps one after the other, and where they stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median
from typing import NamedTuple

import msgspec

from usage_service.log.reading import whole_since
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import Bots
from usage_service.windows import TimeRange

SESSIONS_SAMPLED = 1_000


class Step(NamedTuple):
    """Type of event, and the probe, page, tool or control that it must name; None for any."""

    type: str
    name: str | None = None

    @classmethod
    def of(cls, text: str) -> Step:
        """Return the step that a text says as `type` or `type:name`."""
        kind, _, name = text.partition(":")
        return cls(kind, name or None)


# The types whose events a projection remembers with their names; any other event is in the log alone.
REMEMBERED = frozenset({"page_viewed", "probe_viewed", "link_followed"})
DEFAULT_STEPS = ("probe_searched", "probe_viewed", "control_changed", "link_followed")


class Taken(msgspec.Struct, frozen=True):
    """Number of the sessions read in which a step was taken after all before it, and its share of all of them.

    `share_of_previous` is its share of those that took the step before; `median_seconds` passed since that step.
    """

    step: str
    sessions: int
    share: float
    share_of_previous: float
    median_seconds: float | None


class Funnel(msgspec.Struct, frozen=True):
    """Steps of the sessions that began in a time range, in the order asked for.

    All sessions are read, or those of a share of the visitors (`share_of_visitors_read`) when there are very many.
    Those from before `log_begins` are left out where events of theirs that may be steps were dropped from the log.
    """

    sessions: int
    sessions_read: int
    share_of_visitors_read: float
    log_begins: datetime | None
    steps: list[Taken]


async def funnel(
    connection: Connection, time_range: TimeRange, product: str | None, bots: Bots, steps: Sequence[str]
) -> Funnel:
    """Return in how many sessions these steps, each `type` or `type:name`, were taken in their order.

    Other events may come between. With a product, only the events that belong to it or to no product count.
    """
    asked = [Step.of(text) for text in steps]
    types, names = [step.type for step in asked], [step.name for step in asked]
    begins = None if REMEMBERED.issuperset(types) else await whole_since(connection)
    if begins is None or begins <= time_range.since:
        begins, since = None, time_range.since
    else:
        since = min(begins, time_range.until)
    filters = (since, time_range.until, product, bots)
    [sample] = await connection.fetch(query("sessions", "sample"), *filters, SESSIONS_SAMPLED)
    rows = await connection.fetch(query("funnel", "walked"), *filters, sample["sample_key"], types, names)
    walks = [times_of_steps(row["masks"], row["times"], len(asked)) for row in rows if row["masks"]]
    number = rows[0]["number"]
    taken = [_taken(text, place, walks, number) for place, text in enumerate(steps)]
    return Funnel(sample["sessions"], number, sample["share_of_visitors_read"], begins, taken)


def times_of_steps(masks: Iterable[int], times: Iterable[datetime], steps: int) -> list[datetime]:
    """Return when the first steps were taken, each as early as it can be; one event is one step at most.

    Bit n of the mask of an event says that it is the nth step. To take each step as early as possible leaves most
    events for those that follow, so no other choice gets further.
    """
    reached: list[datetime] = []
    for mask, time in zip(masks, times, strict=True):
        if len(reached) < steps and mask >> len(reached) & 1:
            reached.append(time)
    return reached


def _taken(text: str, place: int, walks: Sequence[Sequence[datetime]], sessions: int) -> Taken:
    own = [walk for walk in walks if len(walk) > place]
    before = sum(len(walk) >= place for walk in walks) if place else sessions
    waits = [(walk[place] - walk[place - 1]).total_seconds() for walk in own] if place else []
    return Taken(
        text,
        len(own),
        round(len(own) / max(sessions, 1), 6),
        round(len(own) / max(before, 1), 6),
        median(waits) if waits else None,
    )
