"""Popularity of any window of days, whole weeks or not, in pages or at once, is what plain Python counts."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from tests.support import reference
from tests.support.servers import Client, Connection, JsonObject, event, registered
from tests.support.traffic import fold_all, logged, records
from usage_service.ingest.appending import append
from usage_service.stats.popularity import Order, PopularProbe, Ranking, popular_probes
from usage_service.stats.view_counts import ViewCounts
from usage_service.windows import Days

FIRST = datetime(2026, 5, 6, tzinfo=UTC)  # a Wednesday
LENGTH = 180


def made(chance: random.Random) -> JsonObject:
    """Make a random view; midnights are its likeliest instants."""
    day, hours = chance.randrange(LENGTH), chance.choice([0, 0, 12, 23.999])
    return event(
        "probe_viewed",
        occurred_at=(FIRST + timedelta(days=day, hours=hours)).isoformat(),
        product=chance.choice(["fog", "fenix"]),
        channel=chance.choice(["nightly", "beta"]),
        probe=chance.choice(["gc_ms", "gc_ms", "slow_ms", "other_ms"]),
        visitor=chance.choice(["ann", "ann", "bob", "cem", "dee"]),
        data={"found": chance.random() < 0.7, "bot": chance.random() < 0.2},
    )


def windows(chance: random.Random) -> list[Days]:
    """Draw windows of all lengths, some beginning before the first event or ending after the last, and whole weeks."""
    first = FIRST.date()
    days = [sorted(chance.sample(range(-9, LENGTH + 9), 2)) for _ in range(10)]
    days += [[5, 11], [5, 18], [4, 12], [6, 11], [5, 5], [-400, 400]]
    return [Days(first + timedelta(days=since), first + timedelta(days=until)) for since, until in days]


def expected(days: dict[tuple[Any, ...], reference.ProbeDay], ranking: Ranking) -> list[PopularProbe]:
    """Rank in plain Python the probes that were viewed in the window."""
    before = Days(ranking.days.first - (ranking.days.last - ranking.days.first) - timedelta(days=1), ranking.days.first)
    found: dict[tuple[str, str], list[reference.ProbeDay]] = defaultdict(list)
    earlier: dict[tuple[str, str], int] = defaultdict(int)
    for (of_product, day, probe, channel, bot), views in days.items():
        if bot > ranking.bots or ranking.product not in (None, of_product) or ranking.channel not in (None, channel):
            continue
        if ranking.days.first <= day <= ranking.days.last:
            found[of_product, probe].append(views)
        elif before.first <= day < before.last:
            earlier[of_product, probe] += views.found + views.missing
    probes = [probe_of(key, views, earlier[key]) for key, views in found.items()]
    return sorted(probes, key=lambda probe: (rank(probe, ranking.order), probe.product, probe.probe))


def rank(probe: PopularProbe, order: Order) -> float:
    return -growth(probe.views, probe.views_before) if order == "trending" else -probe.views


def growth(views: int, before: int) -> float:
    return float((views - before) / max(views + before, 1) ** 0.5)


def probe_of(key: tuple[str, str], days: Iterable[reference.ProbeDay], before: int) -> PopularProbe:
    days = list(days)
    found, missing = sum(day.found for day in days), sum(day.missing for day in days)
    visitors = set[str]().union(*(day.visitors for day in days))
    trend = round(growth(found + missing, before), 3)
    return PopularProbe(*key, found + missing, len(visitors), found, missing, before, trend)


@pytest.mark.parametrize("seed", [1, 2])
async def test_windows_are_what_plain_python_counts(own_database: Connection, seed: int) -> None:
    chance = random.Random(seed)
    arriving = [made(chance) for _ in range(400)]
    for start in range(0, len(arriving), 80):
        await append(own_database, records(arriving[start : start + 80]))
        await fold_all(own_database)
    days = reference.popularity(await logged(own_database))
    orders: list[Order] = ["most", "trending"]
    counts = ViewCounts()
    for window in windows(chance):
        for bots, channel, order in product((False, True), (None, "nightly"), orders):
            ranking = Ranking(window, chance.choice([None, "fog"]), channel, bots, order)
            page = await popular_probes(own_database, counts, ranking, 100)
            assert page.probes == expected(days, ranking), ranking
            assert page.following is None


@pytest.mark.parametrize("order", ["most", "least", "trending"])
async def test_pages_are_parts_of_the_whole(
    client: Client, database: Connection, order: str, drained: Callable[[], Any]
) -> None:
    chance = random.Random(order)
    await append(database, records([made(chance) for _ in range(100)]))
    await append(database, records([registered(f"never_{index}") for index in range(5)]))
    await drained()
    asked: str | None = f"/v1/popularity?window=200d&until=2026-11-21T00:00:00Z&bots=true&order={order}"
    whole = await (await client.get(f"{asked}&limit=1000")).json()
    assert whole["next"] is None
    seen: list[JsonObject] = []
    asked = f"{asked}&limit=2"
    while asked:
        page = await (await client.get(asked)).json()
        assert (page["first_day"], page["last_day"]) == (whole["first_day"], whole["last_day"])
        seen += page["probes"]
        asked = page["next"]
    assert len(seen) > 4
    assert seen == whole["probes"]


async def test_a_cursor_of_nobody_is_refused(client: Client) -> None:
    for cursor in ("nonsense", "W10", "bnVsbA"):
        answer = await client.get(f"/v1/popularity?cursor={cursor}")
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["parameter"] == "cursor"


async def test_weeks_are_summed_once_they_end(own_database: Connection) -> None:
    """A view that comes late is added to its week, too."""
    monday = date(2026, 11, 2)
    for days, weeks in ((0, []), (6, []), (7, [2]), (6, [3]), (21, [3, 1]), (0, [4, 1]), (-7, [1, 4, 1])):
        at = datetime.combine(monday + timedelta(days=days), datetime.min.time(), UTC)
        await append(own_database, records([event("probe_viewed", occurred_at=at.isoformat())]))
        await fold_all(own_database)
        rows = await own_database.fetch("SELECT found FROM popularity_views WHERE days = 7 ORDER BY first_day")
        assert [row["found"] for row in rows] == weeks, days


async def test_the_least_viewed_are_of_the_catalogue_as_it_is_now(own_database: Connection) -> None:
    """Change the catalogue, and view a probe for the first time: what is kept of either goes with it."""
    counts = ViewCounts()
    ranking = Ranking(Days(FIRST.date(), FIRST.date()), "fog", order="least")
    viewed = event("probe_viewed", occurred_at=FIRST.isoformat(), probe="gc_ms")
    retired = event("probe_retired", visitor=None, probe="never_ms")
    for arriving, listed in (
        (registered("never_ms", occurred_at=FIRST.isoformat()), [("never_ms", 0)]),
        (viewed, [("never_ms", 0), ("gc_ms", 1)]),
        (viewed | {"event_id": str(uuid4()), "product": "fenix", "probe": "other_ms"}, [("never_ms", 0), ("gc_ms", 1)]),
        (registered("last_ms"), [("last_ms", 0), ("never_ms", 0), ("gc_ms", 1)]),
        (retired, [("last_ms", 0), ("gc_ms", 1)]),
        (viewed | {"event_id": str(uuid4())}, [("last_ms", 0), ("gc_ms", 2)]),
    ):
        await append(own_database, records([arriving]))
        await fold_all(own_database)
        page = await popular_probes(own_database, counts, ranking, 10)
        assert [(one.probe, one.views) for one in page.probes] == listed
