"""Probes viewed in the same sessions as a probe are those plain Python finds, however rarely the probe is viewed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import reference
from tests.support.servers import Connection, JsonObject, event
from tests.support.traffic import append_traffic, fold_all, logged, records
from usage_service.ingest.appending import append
from usage_service.stats import catalogue
from usage_service.stats.catalogue import viewed_together

SINCE, UNTIL = datetime(2026, 11, 20, 18, 20, tzinfo=UTC), datetime(2026, 11, 23, 6, 40, tzinfo=UTC)
ALL = 1_000_000
HOUR = timedelta(hours=1)


def hour_of(item: JsonObject) -> datetime:
    return reference.moment(item).replace(minute=0, second=0, microsecond=0)


def expected(log: list[JsonObject], product: str, probe: str, most_visits: int) -> dict[str, int]:
    """Count the sessions of people in which each other probe was viewed, of those of the latest visits to this one."""
    visits = {
        (hour_of(item), item["visitor"])
        for item in log
        if (item["type"], item["product"], item["probe"]) == ("probe_viewed", product, probe)
        and item["visitor"]
        and item["data"].get("bot") is not True
        and SINCE - HOUR < hour_of(item) < UNTIL
    }
    latest = sorted(visits, key=lambda visit: (-visit[0].timestamp(), visit[1]))[:most_visits]
    visited = [
        _probes_of(log, session, product)
        for session in reference.sessions(log)
        if not session.bot and SINCE <= session.started_at < UNTIL
        if any(
            session.visitor == visitor and session.started_at < hour + HOUR and session.ended_at >= hour
            for hour, visitor in latest
        )
    ]
    return Counter(other for probes in visited if probe in probes for other in probes - {probe})


def _probes_of(log: list[JsonObject], session: reference.Session, product: str) -> set[str]:
    return {
        item["probe"]
        for item in log
        if (item["type"], item["product"], item["visitor"]) == ("probe_viewed", product, session.visitor)
        and session.started_at <= reference.moment(item) <= session.ended_at
    }


async def found(database: Connection, product: str, probe: str, limit: int = 10) -> list[tuple[str, int]]:
    around = await viewed_together(database, SINCE, UNTIL, product, probe, limit)
    return [(one.probe, one.sessions) for one in around.probes]


@pytest.mark.parametrize("most_visits", [1, 7, 40, ALL])
async def test_it_is_what_plain_python_finds(
    database: Connection, monkeypatch: pytest.MonkeyPatch, most_visits: int
) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    log = await logged(database)
    monkeypatch.setattr(catalogue, "VISITS_READ", most_visits)
    for product in ("fog", "fenix"):
        for probe in ("gc_ms", "slow_ms", "other_ms"):
            assert dict(await found(database, product, probe)) == expected(log, product, probe, most_visits)
    assert most_visits < ALL or any(expected(log, "fog", probe, ALL) for probe in ("gc_ms", "slow_ms"))


async def test_the_time_range_begins_and_ends_within_an_hour(database: Connection) -> None:
    for visitor, begun in (
        ("before", SINCE - HOUR / 60),
        ("first", SINCE),
        ("last", UNTIL - HOUR / 60),
        ("after", UNTIL),
    ):
        for minutes, probe in enumerate(("gc_ms", f"{visitor}_ms")):
            at = (begun + timedelta(minutes=minutes)).isoformat()
            viewed = event("probe_viewed", probe=probe, occurred_at=at, visitor=visitor)
            await append(database, records([viewed]))
    await fold_all(database)
    assert await found(database, "fog", "gc_ms") == [("first_ms", 1), ("last_ms", 1)]


async def test_a_probe_of_another_product_is_another_probe(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = (("fog", "gc_ms"), ("fenix", "their_ms"), ("fog", "our_ms"), ("fog", "late_ms"))
    seen = [
        event("probe_viewed", product=product, probe=probe, occurred_at=(SINCE + timedelta(minutes=minute)).isoformat())
        for minute, (product, probe) in enumerate(views)
    ]
    elsewhere = event("probe_viewed", product="fenix", probe="gc_ms", occurred_at=seen[0]["occurred_at"], visitor="eve")
    await append(database, records([*seen, elsewhere]))
    await fold_all(database)
    assert await found(database, "fog", "gc_ms") == [("late_ms", 1), ("our_ms", 1)]
    assert await found(database, "fenix", "their_ms") == []
    monkeypatch.setattr(catalogue, "EVENTS_READ", 3)
    around = await viewed_together(database, SINCE, UNTIL, "fog", "gc_ms", 10)
    assert ([one.probe for one in around.probes], around.sessions_cut) == (["our_ms"], 1)


async def test_the_most_frequent_come_first(database: Connection) -> None:
    at = SINCE.isoformat()
    seen = {"ann": ["rare_ms", "often_ms"], "bob": ["often_ms"], "cyd": ["often_ms", "same_ms"], "dan": ["same_ms"]}
    await append(
        database,
        records(
            [
                event("probe_viewed", probe=probe, occurred_at=at, visitor=visitor)
                for visitor, probes in seen.items()
                for probe in ["gc_ms", *probes]
            ]
        ),
    )
    await fold_all(database)
    assert await found(database, "fog", "gc_ms") == [("often_ms", 3), ("same_ms", 2), ("rare_ms", 1)]
    assert await found(database, "fog", "gc_ms", limit=1) == [("often_ms", 3)]
    assert await found(database, "fog", "nobody_ms") == []
