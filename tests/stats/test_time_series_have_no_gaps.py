"""Time series count what the log holds in every bucket, whatever the interval; sets too large to unite are sampled."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
import pytest_asyncio

from tests.support import reference
from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, fold_all, logged
from usage_service.problems import Problem
from usage_service.stats import timeseries
from usage_service.stats.timeseries import bucket_range, time_series
from usage_service.windows import Interval, TimeRange

SINCE, UNTIL = datetime(2026, 11, 19, 7, 30, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


def start_of(interval: str, at: datetime) -> datetime:
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {"hour": hour, "day": day, "week": day - timedelta(days=day.weekday())}[interval]


def expected(log: list[JsonObject], interval: str, asked: dict[str, Any]) -> list[JsonObject]:
    """Count the buckets of one series in plain Python."""
    buckets, at, viewed = list[JsonObject](), start_of(interval, SINCE), defaultdict[datetime, list[JsonObject]](list)
    for item in log:
        if (
            item["type"] == "probe_viewed"
            and item["product"] == asked["product"]
            and asked.get("probe") in (None, item["probe"])
            and asked.get("channel") in (None, item["channel"])
            and (asked.get("bots") or not item["data"].get("bot"))
        ):
            viewed[start_of(interval, reference.moment(item))].append(item)
    while at < UNTIL:
        views = viewed[at]
        found = sum(item["data"]["found"] for item in views)
        counts = {"views": len(views), "found": found, "missing": len(views) - found}
        visitors = len({item["visitor"] for item in views if item["visitor"]})
        start = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        buckets.append({"start": start} | counts | {"visitors": visitors, "share_of_visitors_read": 1.0})
        at += STEPS[interval]
    return buckets


@pytest.mark.parametrize("interval", STEPS)
async def test_buckets_are_those_of_the_reference(client: Client, database: Connection, interval: str) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    log = await logged(database)
    for asked in (
        {"product": "fog"},
        {"product": "fog", "bots": 1},
        {"product": "fenix", "probe": "gc_ms"},
        {"product": "fog", "probe": "slow_ms", "channel": "nightly", "bots": 1},
        {"product": "fog", "channel": "beta"},
        {"product": "other"},
    ):
        time_range = {"interval": interval, "since": SINCE.isoformat(), "until": UNTIL.isoformat()}
        answer = await (await client.get(f"/v1/timeseries?{urlencode(asked | time_range)}")).json()
        [series] = answer["series"]
        assert series == {"probe": asked.get("probe"), "buckets": expected(log, interval, asked)}


async def test_several_probes_are_answered_in_the_order_asked_for(client: Client, database: Connection) -> None:
    for probe in ("gc_ms", "slow_ms", "slow_ms"):
        await post(client, event("probe_viewed", probe=probe))
    await fold_all(database)
    path = "/v1/timeseries?product=fog&since=2026-11-20T00:00:00Z&until=2026-11-21T00:00:00Z"
    answer = await (await client.get(f"{path}&probe=slow_ms&probe=nobody&probe=gc_ms&probe=slow_ms")).json()
    found = [(series["probe"], [bucket["views"] for bucket in series["buckets"]]) for series in answer["series"]]
    assert found == [("slow_ms", [2]), ("nobody", [0]), ("gc_ms", [1])]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "product"),
        ("product=fog&interval=month", "interval"),
        ("product=fog&probe=a%20b&probe=gc_ms", "probe"),
        ("product=fog&" + "&".join(f"probe=p{number}" for number in range(11)), "probe"),
        ("product=fog&channel=a&channel=b", "channel"),
        ("product=fog&interval=hour&since=2020-01-01T00:00:00Z", "interval"),
        ("product=fog&since=2026-11-20T10:00:00Z&until=2026-11-20T10:00:00Z", "since"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, query: str, parameter: str) -> None:
    response = await client.get(f"/v1/timeseries?{query}")
    assert response.status == 422
    [error] = (await response.json())["errors"]
    assert (error.get("parameter") or error.get("pointer", "").strip("/")) == parameter


def test_buckets_are_whole_and_weeks_begin_on_monday() -> None:
    now = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)  # a Wednesday
    day = datetime(2026, 11, 25, tzinfo=UTC)
    assert bucket_range("week", None, None, now) == (
        datetime(2026, 9, 7, tzinfo=UTC),
        datetime(2026, 11, 30, tzinfo=UTC),
    )
    assert bucket_range("day", None, None, now) == (day - timedelta(days=29), day + timedelta(days=1))
    assert bucket_range("day", day, day + timedelta(days=1), now) == (day, day + timedelta(days=1))
    assert bucket_range("hour", None, now, now) == TimeRange(
        now.replace(minute=0) - timedelta(hours=47), day.replace(hour=11)
    )
    with pytest.raises(Problem):
        bucket_range("week", now, now, now)


@pytest_asyncio.fixture
async def crowd(database: Connection) -> AsyncIterator[Connection]:
    """Record three hours of 1,500 visitors each, half of whom came back each hour."""
    await database.execute("""
        INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, visitor, product, channel, probe,
                               source, data, digest)
        SELECT 1500 * hour + n + 1, gen_random_uuid(), 'probe_viewed', '2026-11-20T00:00:00Z'::timestamptz +
               hour * interval '1 hour', now(), md5('visitor ' || 750 * hour + n)::uuid, 'fog', 'nightly', 'gc_ms',
               'test', '{"found": true}', gen_random_uuid()
        FROM generate_series(0, 2) AS hour, generate_series(0, 1499) AS n
    """)
    await fold_all(database)
    yield database


async def counted(database: Connection, interval: Interval) -> list[tuple[int, float]]:
    time_range = TimeRange(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    [series] = await time_series(database, time_range, interval, "fog", ["gc_ms"], None, False)
    return [(bucket.visitors, bucket.share_of_visitors_read) for bucket in series.buckets]


def sample_keys(hours: range) -> list[int]:
    """Return the sample keys of the visitors in those hours, in order."""
    numbers = {hour * 750 + number for hour in hours for number in range(1_500)}
    return sorted(int(visitor_of(number).hex[:8], 16) for number in numbers)


def visitor_of(number: int) -> UUID:
    return UUID(hashlib.md5(f"visitor {number}".encode(), usedforsecurity=False).hexdigest())


async def test_a_crowd_is_estimated_from_a_share_that_is_told(crowd: Connection) -> None:
    """An hour keeps its 1,000 lowest visitors: what is lower than the last of them stands for all."""
    lasts = [sample_keys(range(hour, hour + 1))[999] for hour in range(3)]
    hours = await counted(crowd, "hour")
    assert hours[:3] == [(round(999 * 2**32 / last), last / 2**32) for last in lasts]
    assert hours[3:] == [(0, 1.0)] * 21
    below = [key for key in sample_keys(range(3)) if key < min(lasts)]
    [(visitors, share)] = await counted(crowd, "day")
    assert (visitors, share) == (round(len(below) * 2**32 / min(lasts)), min(lasts) / 2**32)
    assert visitors == pytest.approx(3_000, rel=0.08)


@pytest.mark.parametrize("batch", [97, 640, 1_400])
async def test_an_hour_keeps_the_same_visitors_in_whatever_batches_they_come(crowd: Connection, batch: int) -> None:
    rows = "SELECT * FROM probe_hours ORDER BY probe, hour"
    at_once = await crowd.fetch(rows)
    await crowd.execute("TRUNCATE probe_hours")
    for after in range(0, 4_500, batch):
        await crowd.execute("SELECT fold_timeseries($1, $2)", after, min(after + batch, 4_500))
    assert await crowd.fetch(rows) == at_once
    # Each hour again: who is known changes nothing but the number of views.
    await crowd.execute("SELECT fold_timeseries(0, 4500)")
    assert [row["visitors"] for row in await crowd.fetch(rows)] == [row["visitors"] for row in at_once]
    for hour, row in enumerate(await crowd.fetch("SELECT visitors FROM probe_hours WHERE probe <> '' ORDER BY hour")):
        assert row["visitors"] == sorted(visitor_of(hour * 750 + number) for number in range(1_500))[:1_000]


async def test_no_more_visitors_are_united_than_there_is_time_for(
    crowd: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeseries, "VISITORS_SAMPLED", 600)
    sample_key = round(2**32 * 600 / 3_000)
    [(visitors, share)] = await counted(crowd, "day")
    assert share == sample_key / 2**32
    assert visitors == round(sum(found < sample_key for found in sample_keys(range(3))) * 2**32 / sample_key)
