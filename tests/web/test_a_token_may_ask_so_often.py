"""A token has a rate limit, with bursts of ten seconds' worth; a request above it is told when to come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.building import served
from tests.support.servers import Client, connected, rounds
from usage_service import limits
from usage_service.limits import BURST_SECONDS, Limits
from usage_service.tokens import create_token
from usage_service.web import access

OWN = "the operator's own token"


async def ask(client: Client, token: str) -> dict[str, str]:
    response = await client.get("/v1/projections", headers={"Authorization": f"Bearer {token}"})
    await response.read()
    return dict(response.headers) | {"status": str(response.status), "type": response.content_type}


async def test_one_that_asks_too_often_is_told_when_and_others_are_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # or a slow answer earns a request
    async with served(database_url, token=OWN, requests_a_second=0.5) as client, connected(database_url) as database:
        token = await create_token(database, "eager", ["read"], timedelta(days=1))
        answers = await asyncio.gather(*(ask(client, token) for _ in range(9)))
        assert Counter(answer["status"] for answer in answers) == {"200": 5, "429": 4}
        refused = [answer for answer in answers if answer["status"] == "429"]
        assert {(answer["Retry-After"], answer["type"]) for answer in refused} == {("2", "application/problem+json")}
        assert {answer["RateLimit-Policy"] for answer in answers} == {'"token";q=5;w=10'}
        left = [answer["RateLimit"] for answer in answers if answer["status"] == "200"]
        assert [text.split(";")[1] for text in left] == ["r=4", "r=3", "r=2", "r=1", "r=0"]
        assert (await ask(client, OWN))["status"] == "200"
        assert (await client.get("/__lbheartbeat__")).status == 200


async def test_without_the_setting_nothing_is_counted(client: Client) -> None:
    response = await client.get("/v1/projections")
    assert not [name for name in response.headers if name.lower().startswith("ratelimit")]


@settings(max_examples=rounds(60), deadline=None, database=None, derandomize=True)
@given(
    per_second=st.floats(min_value=0.1, max_value=1000),
    waits=st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=60),
)
def test_in_no_ten_seconds_are_there_more_than_twice_the_quota(per_second: float, waits: list[float]) -> None:
    limited, now, taken = Limits(per_second), 1000.0, list[float]()
    for wait in waits:
        now += wait
        allowance = limited.take("a", now)
        assert 0 <= allowance.remaining <= allowance.quota
        if allowance.retry_seconds == 0:
            taken.append(now)
            recent = [moment for moment in taken if moment > now - BURST_SECONDS]
            # A full burst, and what came back meanwhile.
            assert len(recent) <= allowance.quota + per_second * BURST_SECONDS + 1
        else:
            assert Limits.take(limited, "a", now + allowance.retry_seconds + 1e-6).retry_seconds == 0
            taken.append(now + allowance.retry_seconds)
            now = taken[-1]


def test_who_waits_as_told_is_served_for_ever() -> None:
    limited = Limits(2)
    for _ in range(20):
        assert limited.take("a", 0.0).retry_seconds == 0
    assert limited.take("a", 0.0).retry_seconds == 1
    served_at = [second for second in range(1, 101) for _ in range(2) if limited.take("a", second).retry_seconds == 0]
    assert len(served_at) == 200


def test_memory_is_bounded_and_the_busiest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_NAMES", 100)
    limited = Limits(1)
    for _ in range(10):
        limited.take("busy", 0.0)
    for number in range(1_000):
        limited.take(f"name {number}", 0.0)
        assert len(limited._full_at) <= 100
    assert limited.take("busy", 0.0).retry_seconds > 0
