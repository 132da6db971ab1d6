"""UsageClient: whatever goes wrong on the way, each event is recorded, and once."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.fake_service import Fault, fake_service
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, rounds
from usage_service.client import UsageClient

FAULTS: tuple[Fault, ...] = (
    "unread",
    "lost",
    "half",
    "html",
    "short",
    (500, {}),
    (503, {"Retry-After": "0"}),
    (408, {}),
    (404, {}),
    (307, {"Location": "http://127.0.0.1:1/"}),
)


def view(client: UsageClient, event_id: str | None = None, product: str | None = None) -> str:
    return client.record("page_viewed", visitor="somebody", data={"page": "/"}, event_id=event_id, product=product)


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@pytest.mark.parametrize("seed", range(rounds(2)))
def test_whatever_becomes_of_requests(seed: int, spooled: bool, tmp_path: Path) -> None:
    dice = random.Random(seed)

    def plan(number: int, events: list[dict[str, Any]]) -> Fault:
        return dice.choice(FAULTS) if dice.random() < 0.6 else None

    with (
        fake_service(plan) as service,
        UsageClient(
            service.url,
            spool_dir=tmp_path if spooled else None,
            batch_events=dice.randint(5, 40),
            linger_seconds=0.005,
            retry_seconds=0.02,
        ) as client,
    ):
        ids = []
        for number in range(150):
            ids.append(view(client))
            if number in (50, 100):
                service.stop()
                service.start()
        assert client.flush(20)
        stats = client.stats()
    assert sorted(service.events) == sorted(ids)
    assert stats.recorded == stats.sent + stats.duplicates == 150
    assert (stats.refused, stats.dropped, stats.queued, stats.spooled) == (0, 0, 0, 0)
    assert not list(tmp_path.iterdir())


async def test_the_real_service_behind_a_line_that_breaks(client: Client, database: Connection, tmp_path: Path) -> None:
    dice = random.Random(7)
    async with (
        proxied(str(client.make_url("/"))) as (proxy, url),
        UsageClient(url, spool_dir=tmp_path, batch_events=25, linger_seconds=0.005, retry_seconds=0.05) as usage,
    ):
        ids = set()
        for _ in range(20):
            ids |= {view(usage) for _ in range(30)}
            proxy.cut()
            await asyncio.sleep(dice.random() * 0.02)
            proxy.restore()
            await asyncio.sleep(dice.random() * 0.02)
        assert await usage.aflush(20)
        stats = usage.stats()
    rows = await database.fetch("SELECT event_id FROM event_log")
    assert sorted(str(row[0]) for row in rows) == sorted(ids)
    assert stats.sent + stats.duplicates == 600


async def test_a_refused_event_takes_no_other_with_it(
    client: Client, database: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with UsageClient(str(client.make_url("/")), token="t0ken", linger_seconds=0.05) as usage:
        good = view(usage)
        usage.record("page_viewed", visitor="a raw id", data={"pages": "/"})
        again = view(usage, event_id=good, product="fog")
        usage.record("no_such_type", visitor="a raw id")
        last = view(usage)
        assert await usage.aflush(10)
        assert usage.stats()[:4] == (5, 2, 0, 3)
    assert again == good
    assert {str(row[0]) for row in await database.fetch("SELECT event_id FROM event_log")} == {good, last}
    assert "event_refused" in caplog.text
    assert "must be one of page_viewed" in caplog.text
    assert "a raw id" not in caplog.text
    assert "t0ken" not in caplog.text


def test_too_large_a_request_is_split_down_to_the_event_at_fault() -> None:
    def plan(number: int, events: list[dict[str, Any]]) -> Fault:
        if len(events) > 5:
            return 413, {}
        return (400, {}) if any(event["data"]["page"] == "/bad" for event in events) else None

    with fake_service(plan) as service, UsageClient(service.url, linger_seconds=0.05) as client:
        good = [view(client) for _ in range(20)]
        client.record("page_viewed", data={"page": "/bad"})
        good += [view(client) for _ in range(20)]
        assert client.flush(10)
        assert list(service.events) == good  # in order, too
        assert client.stats()[:4] == (41, 40, 0, 1)


@pytest.mark.parametrize("visitor", [7, 0, UUID(int=7), "7"])
def test_a_visitor_may_be_a_key_of_the_apps_users(visitor: str | int | UUID) -> None:
    with fake_service() as service, UsageClient(service.url, linger_seconds=0.005) as client:
        event_id = client.record("x_note", visitor=visitor)
        assert client.flush(20)
        assert service.events[event_id]["visitor"] == str(visitor)


def test_retry_after_is_honoured() -> None:
    with (
        fake_service(lambda number, events: (429, {"Retry-After": "1"}) if number == 1 else None) as service,
        UsageClient(service.url, retry_seconds=0.01) as client,
    ):
        view(client)
        assert client.flush(10)
        assert service.times[1] - service.times[0] >= 1


def test_a_token_that_is_mended_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with (
        fake_service(lambda number, events: (401, {}) if number < 6 else None) as service,
        UsageClient(service.url, token="s3cret", retry_seconds=0.02) as client,
    ):
        event_id = view(client)
        assert client.flush(10)
    assert list(service.events) == [event_id]
    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage().split()[0] for record in loud] == ["usage_service_refuses_us"]
    assert "answered 401: give the client a token= of the service, or set USAGE_SERVICE_TOKEN" in caplog.text
    assert "s3cret" not in caplog.text


def test_many_events_are_few_small_requests_over_one_connection(tmp_path: Path) -> None:
    with fake_service() as service, UsageClient(service.url, spool_dir=tmp_path) as client:
        for _ in range(2_000):
            view(client)
        assert client.flush(10)
        assert len(service.events) == 2_000
        assert service.connections == 1
        assert len(service.times) <= 40
        assert service.packed >= 3
        assert service.repeats == 0
