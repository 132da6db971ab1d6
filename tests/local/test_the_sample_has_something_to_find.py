"""The sample goes on to this minute, and has what people look for: releases, links, a regression and its fix."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.support.servers import JsonObject
from usage_service.local.sample import DAYS, REGRESSED, REGRESSION, RELEASES, sample_traffic

NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
NAMES = [f"{team}_{place}_ms" for team in "abcdefgh" for place in range(20)]
PROBES = [REGRESSED, *((product, name) for product in ("fog", "fenix") for name in NAMES)]


@pytest.fixture(name="events", scope="module")
def all_events() -> list[JsonObject]:
    return list(sample_traffic(PROBES, NOW))


def age(event: JsonObject) -> int:
    return (NOW.date() - at(event).date()).days


def at(event: JsonObject) -> datetime:
    return datetime.fromisoformat(event["occurred_at"])


def test_it_goes_on_to_this_minute_and_not_beyond(events: list[JsonObject]) -> None:
    assert max(map(at, events)) == NOW
    assert {age(event) for event in events if event["type"] == "probe_viewed"} == set(range(DAYS))
    assert sum(NOW - at(event) < timedelta(minutes=30) for event in events) > 3


def test_two_releases_came_to_every_channel(events: list[JsonObject]) -> None:
    releases = Counter((event["product"], event["channel"]) for event in events if event["type"] == "release_published")
    assert set(releases) == {
        (product, channel) for product in ("fog", "fenix") for channel in ("nightly", "beta", "release")
    }
    assert set(releases.values()) == {len(RELEASES)}


def test_a_third_of_the_sessions_end_in_another_tool(events: list[JsonObject]) -> None:
    sessions = sum(event["type"] == "page_viewed" and event["data"]["page"] == "/" for event in events)
    links = Counter(event["data"]["tool"] for event in events if event["type"] == "link_followed")
    assert 0.25 < links.total() / sessions < 0.4
    assert len(links) == 5


def test_what_has_regressed_is_viewed_until_it_is_fixed(events: list[JsonObject]) -> None:
    views = [event for event in events if event["type"] == "probe_viewed" and not event["data"].get("bot")]
    days = Counter(age(event) for event in views if (event["product"], event["probe"]) == REGRESSED)
    meanwhile = sum(days[day] for day in REGRESSION) / len(REGRESSION)
    after = sum(days[day] for day in range(REGRESSION.start)) / REGRESSION.start
    assert meanwhile > 3 * after


def test_what_a_team_owns_is_viewed_together(events: list[JsonObject]) -> None:
    viewed = [event for event in events if event["type"] == "probe_viewed" and not event["data"].get("bot")]
    pairs = [
        (one["probe"][0], other["probe"][0])
        for one, other in pairwise(viewed)
        if one["visitor"] == other["visitor"] and at(other) - at(one) < timedelta(minutes=30)
    ]
    assert sum(one == other for one, other in pairs) / len(pairs) > 0.4


def test_the_same_seed_makes_the_same_events(events: list[JsonObject]) -> None:
    assert list(sample_traffic(PROBES, NOW)) == events
