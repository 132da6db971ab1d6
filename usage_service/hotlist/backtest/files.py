"""History that a backtest replays, read from files: exported logs, events, or page requests of a web server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from usage_service.hotlist.backtest.replaying import BacktestError
from usage_service.hotlist.counts import DayCounts, ProbeDay, counts_of
from usage_service.imports.lines import NO_OPTIONS
from usage_service.imports.reading import read_events
from usage_service.imports.refusals import Refusal
from usage_service.imports.source import open_source
from usage_service.probe_keys import ProbeKey
from usage_service.shared.progress import progress

MOST_DAYS = 3_660
JsonObject = dict[str, Any]
Cell = tuple[date, ProbeKey]


def read_counts(paths: Iterable[Path], product: str | None) -> DayCounts:
    """Count the requests of people in the files.

    Raise BacktestError when there are none, or a line is malformed.
    """
    return counts_of_events(event for path in paths for event in _events(path) if product in (None, event["product"]))


def counts_of_events(events: Iterable[JsonObject]) -> DayCounts:
    """Count the requests of people in events as they are on the wire, each event id once."""
    views: Counter[Cell] = Counter()
    missing: Counter[Cell] = Counter()
    people: defaultdict[Cell, set[str]] = defaultdict(set)
    registered: dict[ProbeKey, date] = {}
    for event in _once(events):
        day, key = _day(event), ProbeKey(event["product"], event["probe"])
        if event["type"] == "probe_registered":
            registered[key] = min(day, registered.get(key, day))
        elif not event["data"].get("bot"):
            views[day, key] += 1
            missing[day, key] += not event["data"]["found"]
            people[day, key] |= {event["visitor"]} if event.get("visitor") else set()
    if not views:
        raise BacktestError("the files hold no request of a probe (probe_viewed) by a person")
    first, days = min(day for day, _ in views), (max(views)[0] - min(views)[0]).days + 1
    if days > MOST_DAYS:
        raise BacktestError(f"the requests are spread over {days} days; a backtest takes {MOST_DAYS}")
    probe_days = [ProbeDay(*cell, number, len(people[cell]), missing[cell]) for cell, number in views.items()]
    return counts_of(probe_days, registered, first, days)


def _once(events: Iterable[JsonObject]) -> Iterator[JsonObject]:
    seen: set[str] = set()
    for event in events:
        if event["event_id"] not in seen:
            seen.add(event["event_id"])
            yield event


def _day(event: JsonObject) -> date:
    return datetime.fromisoformat(event["occurred_at"]).astimezone(UTC).date()


def _events(path: Path) -> Iterator[JsonObject]:
    with open_source(path) as source, progress(path.name, source.size, in_bytes=True) as report:
        for number, events in read_events(source, NO_OPTIONS):
            if isinstance(events, Refusal):
                raise BacktestError(f"{path}:{number}: {events}")
            report(source.bytes_read())
            yield from (event for event in events if event["type"] in ("probe_viewed", "probe_registered"))
