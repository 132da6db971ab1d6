"""Random requests: as the reference takes them, as matrices and as events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from hypothesis import strategies as st

from tests.support.hot_reference import Name, Request
from tests.support.servers import JsonObject, event, registered
from usage_service.hotlist.counts import DayCounts, ProbeDay, counts_of
from usage_service.probe_keys import ProbeKey

FIRST = date(2026, 8, 1)
DAYS = 20
NAMES: list[Name] = [("fog", f"probe_{letter}") for letter in "abcdefgh"]
REQUESTS = st.lists(
    st.builds(
        Request,
        st.integers(0, DAYS - 1).map(lambda age: FIRST + timedelta(days=age)),
        st.sampled_from(NAMES),
        st.sampled_from(["ann", "bob", "cid", None]),
        st.booleans(),
    ),
    max_size=60,
)
REGISTERED = st.dictionaries(
    st.sampled_from(NAMES), st.integers(-200, DAYS + 5).map(lambda age: FIRST + timedelta(days=age)), max_size=8
)


def counts(requests: Iterable[Request], known: dict[Name, date], days: int = DAYS) -> DayCounts:
    """Return the requests as the matrices of the service."""
    cells: dict[tuple[date, Name], list[Request]] = defaultdict(list)
    for request in requests:
        cells[request.day, request.name].append(request)
    probe_days = [
        ProbeDay(
            day, ProbeKey(*name), len(own), len({one.visitor for one in own} - {None}), sum(not o.found for o in own)
        )
        for (day, name), own in cells.items()
    ]
    return counts_of(probe_days, {ProbeKey(*name): day for name, day in known.items()}, FIRST, days)


def as_event(request: Request) -> JsonObject:
    """Return a request as the event that is posted."""
    product, probe = request.name
    at = f"{request.day}T10:00:00Z"
    return event(
        "probe_viewed",
        occurred_at=at,
        visitor=request.visitor,
        product=product,
        probe=probe,
        data={"found": request.found},
    )


def registration(name: Name, day: date) -> JsonObject:
    """Return the event that registers a probe."""
    return registered(name[1], product=name[0], occurred_at=f"{day}T00:00:00Z")


def in_batches(events: Sequence[JsonObject], size: int = 1_000) -> Iterable[Sequence[JsonObject]]:
    """Split events into batches that fit into a request."""
    return (events[begin : begin + size] for begin in range(0, len(events), size))


def ended_build(probe: str, day: date, read: int, seconds: float | None = None, channel: str = "nightly") -> JsonObject:
    """Return the event that ends a build of a probe of fog, as the service writes it."""
    told: JsonObject = {"build_id": "a build", "attempt": 1, "bytes": read, "rows": 1}
    told |= {} if seconds is None else {"seconds": seconds}
    at = f"{day}T11:00:00Z"
    return event("build_succeeded", occurred_at=at, visitor=None, probe=probe, channel=channel, data=told)
