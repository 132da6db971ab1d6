"""Probes viewed in the same sessions as a probe are those plain Python finds, by how far beyond chance they are."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import reference
from tests.support.servers import Connection, JsonObject, event
from tests.support.traffic import append_traffic, fold_all, logged, records
from usage_service.ingest.appending import append
from usage_service.stats import together
from usage_service.stats.together import Together, expected_sessions, lift_at_least, viewed_together
from usage_service.stats.view_counts import ViewCounts

SINCE, UNTIL = datetime(2026, 11, 20, 18, 20, tzinfo=UTC), datetime(2026, 11, 23, 6, 40, tzinfo=UTC)
ALL = 1_000_000
HOUR = timedelta(hours=1)


def hour_of(item: JsonObject) -> datetime:
    return reference.moment(item).replace(minute=0, second=0, microsecond=0)


class Visited(NamedTuple):
    """A session in which a probe was viewed: its days, and all probes of the product that were."""

    first: date
    last: date
    probes: set[str]


def visited_sessions(log: list[JsonObject], product: str, probe: str, most_visits: int) -> list[Visited]:
    """Return the sessions of people in which a probe was viewed, of those of the latest visits to it."""
    visits = {
        (hour_of(item), item["visitor"])
        for item in log
        if (item["type"], item["product"], item["probe"]) == ("probe_viewed", product, probe)
        and item["visitor"]
        and item["data"].get("bot") is not True
        and SINCE - HOUR < hour_of(item) < UNTIL
    }
    latest = defaultdict[str, list[datetime]](list)
    for hour, visitor in sorted(visits, key=lambda visit: (-visit[0].timestamp(), visit[1]))[:most_visits]:
        latest[visitor].append(hour)
    views = defaultdict[str, list[tuple[datetime, str]]](list)
    for item in log:
        if (item["type"], item["product"]) == ("probe_viewed", product):
            views[item["visitor"]].append((reference.moment(item), item["probe"]))
    visited = [
        Visited(session.started_at.date(), session.ended_at.date(), _probes_of(views[session.visitor], session))
        for session in reference.sessions(log)
        if not session.bot and SINCE <= session.started_at < UNTIL
        if any(session.started_at < hour + HOUR and session.ended_at >= hour for hour in latest[session.visitor])
    ]
    return [session for session in visited if probe in session.probes]


def expected(log: list[JsonObject], product: str, probe: str, most_visits: int) -> dict[str, tuple[int, float]]:
    """Return in how many sessions each other probe was viewed, too, and in how many it would be by chance."""
    visited = visited_sessions(log, product, probe, most_visits)
    if not visited:
        return {}
    counts = Counter(other for session in visited for other in session.probes - {probe})
    views = Counter(
        item["probe"]
        for item in log
        if (item["type"], item["product"]) == ("probe_viewed", product) and item["probe"] != probe
        if item["data"].get("bot") is not True
        if min(one.first for one in visited) <= reference.moment(item).date() <= max(one.last for one in visited)
    )
    share = {other: views[other] / views.total() for other in counts}
    return {
        other: (count, sum(1 - (1 - share[other]) ** (len(session.probes) - 1) for session in visited))
        for other, count in counts.items()
    }


def _probes_of(views: list[tuple[datetime, str]], session: reference.Session) -> set[str]:
    return {probe for at, probe in views if session.started_at <= at <= session.ended_at}


async def asked(database: Connection, product: str, probe: str, limit: int = 10) -> Together:
    return await viewed_together(database, ViewCounts(), SINCE, UNTIL, product, probe, limit)


async def found(database: Connection, product: str, probe: str, limit: int = 10) -> list[tuple[str, int]]:
    around = await asked(database, product, probe, limit)
    return [(one.probe, one.sessions) for one in around.probes]


@pytest.mark.parametrize("most_visits", [1, 7, 40, ALL])
async def test_it_is_what_plain_python_finds(
    database: Connection, monkeypatch: pytest.MonkeyPatch, most_visits: int
) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    log = await logged(database)
    monkeypatch.setattr(together, "VISITS_READ", most_visits)
    for product in ("fog", "fenix"):
        for probe in ("gc_ms", "slow_ms", "other_ms"):
            around = await asked(database, product, probe)
            counted = expected(log, product, probe, most_visits)
            assert {one.probe: one.sessions for one in around.probes} == {name: one[0] for name, one in counted.items()}
            for one in around.probes:
                by_chance = counted[one.probe][1]
                assert one.expected == pytest.approx(by_chance, abs=0.001)
                assert one.lift == pytest.approx(one.sessions / by_chance, abs=0.001)
            assert around.sessions == len(visited_sessions(log, product, probe, most_visits))
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
    monkeypatch.setattr(together, "EVENTS_READ", 3)
    around = await asked(database, "fog", "gc_ms")
    assert ([one.probe for one in around.probes], around.sessions_cut) == (["our_ms"], 1)


async def test_what_is_beyond_chance_comes_before_what_everybody_views(database: Connection) -> None:
    at = SINCE.isoformat()
    seen = {"ann": ["pair_ms"], "bob": ["pair_ms", "often_ms"], "cyd": ["pair_ms", "often_ms"], "dan": ["often_ms"]}
    everybody = {f"person {number}": ["often_ms", "any_ms"] for number in range(20)}
    views = [
        event("probe_viewed", probe=probe, occurred_at=at, visitor=visitor)
        for visitor, probes in ({name: ["gc_ms", *probes] for name, probes in seen.items()} | everybody).items()
        for probe in probes
    ]
    await append(database, records(views))
    await fold_all(database)
    around = await asked(database, "fog", "gc_ms")
    assert [(one.probe, one.sessions) for one in around.probes] == [("pair_ms", 3), ("often_ms", 3)]
    pair, often = around.probes
    assert pair.lift_at_least > 1 > often.lift_at_least
    assert await found(database, "fog", "gc_ms", limit=1) == [("pair_ms", 3)]
    assert await found(database, "fog", "nobody_ms") == []


@given(
    st.dictionaries(st.integers(1, 30), st.integers(1, 1_000), min_size=1),
    st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=5),
)
def test_chance_expects_no_more_sessions_than_there_are(sessions: dict[int, int], shares: list[float]) -> None:
    """It is the same of each, however many are asked about."""
    whole, chances = sum(sessions.values()), expected_sessions(sessions, np.array(shares))
    deeper = expected_sessions({probes + 1: number for probes, number in sessions.items()}, np.array(shares))
    for share, expected, then in zip(shares, chances, deeper, strict=True):
        plainly = sum(number * (1 - (1 - share) ** (probes - 1)) for probes, number in sessions.items())
        assert expected == pytest.approx(plainly, rel=1e-6, abs=1e-9)
        assert 0 <= expected <= then <= whole + 1e-9


def test_a_pair_by_chance_is_said_to_be_none_nearly_always() -> None:
    dice, trials, by_chance = random.Random(1), 2_000, 4.0
    counts = [sum(dice.random() < by_chance / 500 for _ in range(500)) for _ in range(trials)]
    seen = np.array([float(count) for count in counts if count])
    wrong = int((lift_at_least(seen, np.array(by_chance)) > 1).sum())
    assert wrong / trials < 0.025 + 3 * math.sqrt(0.025 * 0.975 / trials)
    assert lift_at_least(np.array(14.0), np.array(by_chance)) > 1
