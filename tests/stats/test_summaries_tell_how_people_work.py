"""Summaries of sessions are those of the reference: length, depth, what was used, roles; one session is told whole."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest

from tests.support import reference
from tests.support.reference import Session
from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, fold_all, logged
from usage_service.stats import session_summaries

SINCE, UNTIL = datetime(2026, 11, 20, 18, tzinfo=UTC), datetime(2026, 11, 23, 6, tzinfo=UTC)
TIME_RANGE = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}
PERCENTILES = {"p25": 25, "median": 50, "p75": 75, "p90": 90, "p99": 99}
ROLES = ["starting_point", "endpoint", "in_between", "whole"]


async def answered(client: Client, path: str, **parameters: object) -> JsonObject:
    response = await client.get(f"{path}?{urlencode(parameters)}")
    assert response.status == 200, await response.text()
    return dict(await response.json())


def quantiles(values: list[float]) -> JsonObject:
    ordered = sorted(values)
    return {name: ordered[math.ceil(len(ordered) * share / 100) - 1] for name, share in PERCENTILES.items()}


def shares(sessions: list[Session]) -> JsonObject:
    counts = Counter(session.role for session in sessions)
    return {role: round(counts[role] / len(sessions), 6) for role in ROLES}


def used(names: list[str], number: int, limit: int) -> list[JsonObject]:
    ranked = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [{"name": name, "sessions": count, "share": round(count / number, 6)} for name, count in ranked]


def numbers(values: list[int]) -> list[JsonObject]:
    return [{"number": number, "sessions": count} for number, count in sorted(Counter(values).items())]


def chosen(log: list[JsonObject], since: datetime, until: datetime, product: str | None, bots: str) -> list[Session]:
    return [
        session
        for session in reference.sessions(log)
        if since <= session.started_at < until
        and product in (None, *session.products)
        and bots in ("include", "only" if session.bot else "exclude")
    ]


def expected(sessions: list[Session], sampled: list[Session], limit: int = 20) -> JsonObject:
    """Summarise sessions in plain Python, but for the time range and the share of the visitors."""
    days = sorted({session.started_at.replace(hour=0, minute=0) for session in sessions})
    own = {day: [session for session in sessions if session.started_at.date() == day.date()] for day in days}
    number = len(sampled)
    return {
        "sessions": len(sessions),
        "sessions_read": number,
        "sessions_cut": sum(
            max(map(len, (one.probes, one.controls, one.tools_left))) > reference.MOST_NAMES for one in sampled
        ),
        "roles": shares(sessions),
        "roles_over_time": [
            {"start": f"{day:%Y-%m-%dT%H:%M:%SZ}", "sessions": len(own[day]), "shares": shares(own[day])}
            for day in days
        ],
        "quantiles": {
            "seconds": quantiles([(session.ended_at - session.started_at).total_seconds() for session in sampled]),
            "events": quantiles([session.events for session in sampled]),
            "probes": quantiles([len(session.probes) for session in sampled]),
            "controls": quantiles([len(session.controls) for session in sampled]),
        },
        "probes_a_session": numbers([len(session.probes) for session in sampled]),
        "controls_a_session": numbers([len(session.controls) for session in sampled]),
        "probes": used([name for session in sampled for name in session.probes], number, limit),
        "controls": used([name for session in sampled for name in session.controls], number, limit),
        "tools_left": used([name for session in sampled for name in session.tools_left], number, limit),
        "came_from": used([session.came_from for session in sampled if session.came_from], number, limit),
        "referrers": used([session.referrer for session in sampled if session.referrer], number, limit),
    }


def without_range(summary: JsonObject) -> JsonObject:
    return {name: value for name, value in summary.items() if name not in ("since", "until", "share_of_visitors_read")}


async def test_a_summary_is_that_of_the_reference(client: Client, database: Connection) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    log = await logged(database)
    asked: list[JsonObject] = [
        {},
        {"product": "fog"},
        {"bots": "include", "limit": 3},
        {"bots": "only", "product": "fenix"},
    ]
    for more in asked:
        answer = await answered(client, "/v1/sessions/summary", **TIME_RANGE, **more)
        sessions = chosen(log, SINCE, UNTIL, more.get("product"), more.get("bots", "exclude"))
        assert without_range(answer["summary"]) == expected(sessions, sessions, more.get("limit", 20))
        assert (answer["summary"]["share_of_visitors_read"], answer["compared_with"]) == (1, None)


async def test_very_many_are_summed_up_from_a_share_of_the_visitors(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    sessions = chosen(await logged(database), SINCE, UNTIL, None, "include")
    wanted = len(sessions) * 2 // 3  # so that never all 20 visitors are beyond it
    monkeypatch.setattr(session_summaries, "SESSIONS_SAMPLED", wanted)
    sample_key = round(2**32 * wanted / len(sessions))
    sampled = [session for session in sessions if int(UUID(session.visitor).hex[:8], 16) < sample_key]
    summary = (await answered(client, "/v1/sessions/summary", **TIME_RANGE, bots="include"))["summary"]
    assert without_range(summary) == expected(sessions, sampled)
    assert summary["share_of_visitors_read"] == sample_key / 2**32


async def test_a_time_range_is_compared_with_another(client: Client, database: Connection) -> None:
    await append_traffic(database, 600)
    await fold_all(database)
    log = await logged(database)
    middle = datetime(2026, 11, 22, tzinfo=UTC)
    asked = {"since": middle.isoformat(), "until": (middle + timedelta(days=1)).isoformat()}
    before = await answered(client, "/v1/sessions/summary", **asked, compare="before")
    sessions = chosen(log, middle - timedelta(days=1), middle, None, "exclude")
    assert without_range(before["compared_with"]) == expected(sessions, sessions)
    assert (before["compared_with"]["since"], before["compared_with"]["until"]) == (
        "2026-11-21T00:00:00Z",
        "2026-11-22T00:00:00Z",
    )
    window = {"compare_since": (middle - timedelta(hours=30)).isoformat(), "compare_until": middle.isoformat()}
    other = await answered(client, "/v1/sessions/summary", **asked, compare="window", **window)
    sessions = chosen(log, middle - timedelta(hours=30), middle, None, "exclude")
    assert without_range(other["compared_with"]) == expected(sessions, sessions)


async def test_nothing_is_summed_up_to_nothing(client: Client) -> None:
    for asked in ({}, {"since": "1900-01-01T00:00:00Z", "until": "3000-01-01T00:00:00Z"}):
        summary = (await answered(client, "/v1/sessions/summary", **asked))["summary"]
        assert (summary["sessions"], summary["quantiles"], summary["probes"]) == (0, None, [])


async def test_one_event_is_a_session_in_all_of_time(client: Client, database: Connection) -> None:
    await post(client, event())
    await fold_all(database)
    asked = {"since": "1900-01-01T00:00:00Z", "until": "3000-01-01T00:00:00Z", "interval": "week"}
    summary = (await answered(client, "/v1/sessions/summary", **asked))["summary"]
    assert summary["quantiles"]["seconds"]["p99"] == 0
    assert [bucket["start"] for bucket in summary["roles_over_time"]] == ["2026-11-16T00:00:00Z"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("compare=after", "compare"),
        ("compare=window", "compare_since"),
        ("compare=window&compare_since=2026-11-01T00:00:00Z", "compare_until"),
        ("compare=window&compare_since=2026-11-01T00:00:00Z&compare_until=2026-11-01T00:00:00Z", "compare_since"),
        ("compare_since=2026-11-01T00:00:00Z", "compare_since"),
        ("since=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z", "since"),
        ("interval=year", "interval"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, query: str, parameter: str) -> None:
    response = await client.get(f"/v1/sessions/summary?{query}")
    assert response.status == 422
    assert [error["parameter"] for error in (await response.json())["errors"]] == [parameter]


async def test_a_session_is_told_event_by_event(client: Client, database: Connection) -> None:
    """In the order in which they occurred, wherever they are in the log."""
    at = "2026-11-20T12:{:02}:00Z"
    later = event("probe_viewed", occurred_at=at.format(7))
    first, other = event(occurred_at=at.format(0)), event(visitor="another")
    mine = event("x_mine", occurred_at=at.format(7), data={"deep": [1]}, product=None)
    await post(client, later, first, other, mine, event(occurred_at=at.format(59)))
    await fold_all(database)
    sessions = (await answered(client, "/v1/sessions", since=at.format(0), until=at.format(1)))["sessions"]
    [listed] = [session for session in sessions if session["events"] == 3]
    path = f"/v1/sessions/{listed['visitor']}/{listed['started_at']}"
    answer = await answered(client, path)
    assert answer["session"] == listed
    ends = sorted([later, mine], key=lambda item: str(item["event_id"]))
    told = [(item["event_id"], item["type"], item["data"]) for item in answer["timeline"]]
    assert told == [(item["event_id"], item["type"], item["data"]) for item in (first, *ends)]
    assert len((await answered(client, path, limit=2))["timeline"]) == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("00000000-0000-4000-8000-000000000000/2026-11-20T12:00:00Z", 404),
        ("nobody/2026-11-20T12:00:00Z", 422),
        ("00000000-0000-4000-8000-000000000000/noon", 422),
        ("00000000-0000-4000-8000-000000000000/2026-11-20T12:00:00", 422),
    ],
)
async def test_a_session_that_is_not_there_is_said(client: Client, path: str, status: int) -> None:
    response = await client.get(f"/v1/sessions/{path}")
    assert (response.status, response.content_type) == (status, "application/problem+json")
