"""The real catalogue and four days of real page requests: imported, and checked against plain Python over the file."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.support.building import served
from tests.support.servers import Client, Connection, connected, drained_projections, shared_file
from tests.support.traffic import PROJECTIONS, ignore
from usage_service.imports.importing import import_file
from usage_service.projections.rebuilding import verify
from usage_service.stats import journeys

CATALOGUE = shared_file("probes.csv")
TRAFFIC = shared_file("web_traffic.ndjson.gz")
SPAN = "since=2015-05-01T00:00:00Z&until=2015-06-01T00:00:00Z"
RECORDED_AT = datetime(2026, 11, 1, tzinfo=UTC)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        not (CATALOGUE.exists() and TRAFFIC.exists()), reason="the real catalogue and traffic are not here"
    ),
]


class Imported(NamedTuple):
    """A service that has imported both files, its database, and the numbers of events by status."""

    client: Client
    database: Connection
    statuses: list[Counter[str]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def imported(module_database_url: str) -> AsyncIterator[Imported]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        url = str(client.make_url("/"))
        both = [await import_file(path, url, None) for path in (CATALOGUE, TRAFFIC)]
        await drained_projections(database)
        yield Imported(client, database, [Counter(stats.statuses) for stats in both])


def requests() -> list[dict[str, Any]]:
    """Return the requests that are views: those that the middleware would have recorded."""
    found = [json.loads(line) for line in gzip.decompress(TRAFFIC.read_bytes()).splitlines()]
    return [request for request in found if 200 <= request["status"] < 300 or request["status"] == 404]


def events_of(request: dict[str, Any]) -> int:
    """Return the number of events of a request: a page and a probe viewed; what was not found is no page."""
    return 1 if request["status"] == 404 else 2


async def test_everything_is_loaded_once(imported: Imported) -> None:
    client, database, statuses = imported
    rows = list(csv.DictReader(CATALOGUE.read_text().splitlines()))
    assert statuses == [Counter(recorded=len(rows)), Counter(recorded=sum(map(events_of, requests())))]
    again = await import_file(TRAFFIC, str(client.make_url("/")), None)
    assert again.statuses == Counter(duplicate=sum(map(events_of, requests())))
    known = await database.fetch("SELECT product, probe, metric_type, pings FROM catalogue")
    pings: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        pings[row["product"], row["probe"], row["type"]].add(row["ping"])
    assert {(row[0], row[1], row[2]): set(row[3]) for row in known} == pings
    for projection in PROJECTIONS:
        assert (await verify(database, projection, ignore)).equal


@pytest.mark.parametrize("bots", [False, True])
async def test_popularity_is_that_of_the_file(imported: Imported, bots: bool) -> None:
    views: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    visitors: dict[str, set[str]] = defaultdict(set)
    for request in requests():
        if bots or not request["bot"]:
            views[request["probe"]] += 1
            missing[request["probe"]] += request["status"] == 404
            visitors[request["probe"]].add(request["visitor"])
    asked = f"/v1/popularity?product=fog&{SPAN}&limit=10000&hidden=true&bots={str(bots).lower()}"
    probes = (await (await imported.client.get(asked)).json())["probes"]
    answered = {probe["probe"]: (probe["views"], probe["missing"], probe["visitors"]) for probe in probes}
    assert answered == {probe: (views[probe], missing[probe], len(visitors[probe])) for probe in views}
    ranks = [(-probe["views"], probe["probe"]) for probe in probes]
    assert ranks == sorted(ranks)


async def test_sessions_are_those_of_the_file(imported: Imported) -> None:
    client = imported.client
    expected = Counter(expected_sessions())
    answer = await (await client.get(f"/v1/sessions?{SPAN}&bots=include&limit=10000")).json()
    assert answer["total"] == sum(expected.values())
    answered = Counter(
        (
            session["started_at"],
            session["ended_at"],
            session["events"],
            session["bot"],
            tuple(session["probes"]),
        )
        for session in answer["sessions"]
    )
    assert answered == expected
    people = await (await client.get(f"/v1/sessions?{SPAN}&limit=1")).json()
    assert people["total"] == sum(number for session, number in expected.items() if not session[3])


def expected_sessions() -> list[tuple[Any, ...]]:
    by_visitor: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for request in requests():
        by_visitor[request["visitor"]].append(request | {"at": datetime.fromisoformat(request["occurred_at"])})
    found = []
    for own in by_visitor.values():
        own.sort(key=lambda request: request["at"])
        start = 0
        for end in range(1, len(own) + 1):
            if end == len(own) or own[end]["at"] - own[end - 1]["at"] >= timedelta(minutes=30):
                found.append(expected_session(own[start:end]))
                start = end
    return found


def expected_session(run: list[dict[str, Any]]) -> tuple[Any, ...]:
    return (
        f"{run[0]['at']:%Y-%m-%dT%H:%M:%SZ}",
        f"{run[-1]['at']:%Y-%m-%dT%H:%M:%SZ}",
        sum(map(events_of, run)),
        any(request["bot"] for request in run),
        tuple(sorted({request["probe"] for request in run})),
    )


async def test_series_summary_and_journeys_are_those_of_the_file(
    imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, database, _ = imported
    monkeypatch.setattr(journeys, "SESSIONS_SAMPLED", 100_000)
    for interval in ("hour", "day", "week"):
        await check_time_series(client, interval)
    await check_summary(client)
    await check_journeys(client, database)


async def check_time_series(client: Client, interval: str) -> None:
    views: Counter[str] = Counter()
    visitors: dict[str, set[str]] = defaultdict(set)
    for request in people():
        at = datetime.fromisoformat(request["occurred_at"]).replace(minute=0, second=0)
        day = at.replace(hour=0)
        start = {"hour": at, "day": day, "week": day - timedelta(days=day.weekday())}[interval]
        views[f"{start:%Y-%m-%dT%H:%M:%SZ}"] += 1
        visitors[f"{start:%Y-%m-%dT%H:%M:%SZ}"].add(request["visitor"])
    [series] = (await (await client.get(f"/v1/timeseries?product=fog&interval={interval}&{SPAN}")).json())["series"]
    viewed = [bucket for bucket in series["buckets"] if bucket["views"]]
    answered = {bucket["start"]: (bucket["views"], bucket["visitors"]) for bucket in viewed}
    assert answered == {start: (views[start], len(visitors[start])) for start in views}


async def check_summary(client: Client) -> None:
    sessions = [session for session in expected_sessions() if not session[3]]
    summary = (await (await client.get(f"/v1/sessions/summary?{SPAN}&limit=1000")).json())["summary"]
    assert summary["sessions"] == summary["sessions_read"] == len(sessions)
    used = Counter(probe for session in sessions for probe in session[4])
    ranked = sorted(used.items(), key=lambda item: (-item[1], item[0]))[:1000]
    assert [(use["name"], use["sessions"]) for use in summary["probes"]] == ranked
    events = sorted(session[2] for session in sessions)
    assert summary["quantiles"]["events"]["median"] == events[(len(events) - 1) // 2]


async def check_journeys(client: Client, database: Connection) -> None:
    """Check journeys; requests of the same second have no order in the file, and are in the order of their ids."""
    rows = await database.fetch("""
        SELECT visitor, probe, occurred_at, data @> '{"bot": true}' AS bot FROM event_log WHERE type = 'probe_viewed'
        ORDER BY visitor, occurred_at, event_id
    """)
    runs: list[list[tuple[Any, ...]]] = []
    for visitor, probe, at, bot in rows:
        if not runs or runs[-1][-1][0] != visitor or at - runs[-1][-1][2] >= timedelta(minutes=30):
            runs.append([])
        runs[-1].append((visitor, probe, at, bot))
    walks = [[step[1] for step in run] for run in runs if not any(step[3] for step in run)]
    pairs = Counter(pair for walk in walks for pair in pairwise(walk) if pair[0] != pair[1])
    expected = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:1000]
    answer = await (await client.get(f"/v1/journeys?kind=probe&{SPAN}&limit=1000")).json()
    transitions = [(tuple(step["name"] for step in path["steps"]), path["count"]) for path in answer["transitions"]]
    assert transitions == expected
    assert sum(path["count"] for path in answer["entries"]) <= len(walks)


def people() -> list[dict[str, Any]]:
    return [request for request in requests() if not request["bot"]]
