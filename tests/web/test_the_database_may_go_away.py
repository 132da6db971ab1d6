"""While the database is away the service says so, acknowledges nothing that is not in the log, and recovers alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest
from aiohttp import ClientResponse

from tests.conftest import Start
from tests.support.proxy import Proxy, proxied
from tests.support.servers import Client, Connection, event, eventually, post
from usage_service.shared import connecting, postgres
from usage_service.shared import listener as listening
from usage_service.shared.settings import ServerSettings
from usage_service.web.keys import SERVICE

REQUESTS = [
    ("POST", "/v1/events"),
    ("GET", "/v1/popularity"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/hotlist"),
    ("GET", "/v1/probes/fog/gc_ms?channel=nightly"),
    ("POST", "/v1/builds"),
]
BUILD = {"product": "fog", "channel": "nightly", "probe": "gc_ms"}


@pytest.fixture
async def proxy_and_url(database_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    async with proxied(database_url) as made:
        yield made


@pytest.fixture
def proxy(proxy_and_url: tuple[Proxy, str]) -> Proxy:
    return proxy_and_url[0]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr("usage_service.ingest.appending.APPEND_SECONDS", 1.0)
    monkeypatch.setattr("usage_service.projections.runner.AFTER_FAILURE_SECONDS", 0.2)
    monkeypatch.setattr(listening, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(listening, "PING_SECONDS", 1.0)
    monkeypatch.setattr(listening, "LONGEST_BACKOFF_SECONDS", 0.5)


@pytest.fixture
async def client(
    impatient: None, start: Start, settings: ServerSettings, proxy_and_url: tuple[Proxy, str]
) -> AsyncIterator[Client]:
    proxy, url = proxy_and_url
    yield await start(msgspec.structs.replace(settings, database_url=url))
    proxy.restore()


async def ask(client: Client, method: str, path: str) -> ClientResponse:
    body = None if method == "GET" else [event()] if path == "/v1/events" else BUILD
    return await client.request(method, path, json=body)


async def unavailable(response: ClientResponse) -> None:
    body = await response.json()
    assert response.status == body["status"] == 503, body
    assert response.content_type == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1
    assert "safe" in body["detail"]


async def recovered(client: Client) -> bool:
    heartbeat = await client.get("/__heartbeat__")
    return heartbeat.status == 200 and (await ask(client, "POST", "/v1/events")).status == 201


async def acknowledged_until(client: Client, end: asyncio.Event) -> set[str]:
    """Post one event after the other; return the ids of those that were acknowledged."""
    acknowledged = set()
    while not end.is_set():
        body = event()
        async with client.post("/v1/events", json=[body]) as response:
            await response.read()
            assert response.status in (201, 503)
            if response.status == 201:
                acknowledged.add(body["event_id"])
    return acknowledged


async def test_cut_off_every_route_says_so_and_comes_back(client: Client, proxy: Proxy) -> None:
    await post(client, event())
    proxy.cut()
    for method, path in REQUESTS:
        await unavailable(await ask(client, method, path))
    assert (await client.get("/__lbheartbeat__")).status == 200
    proxy.restore()
    await eventually(lambda: recovered(client), "the service works again")


async def test_what_was_acknowledged_is_in_the_log(client: Client, proxy: Proxy, database: Connection) -> None:
    end = asyncio.Event()
    posting = [asyncio.create_task(acknowledged_until(client, end)) for _ in range(8)]

    async def grown(by: int) -> bool:
        return int(await database.fetchval("SELECT last_position()")) >= by

    for round_number in range(1, 4):
        position = int(await database.fetchval("SELECT last_position()"))
        await eventually(partial(grown, position + 20), f"events are recorded, round {round_number}")
        proxy.cut()
        await unavailable(await ask(client, "GET", "/v1/popularity"))
        proxy.restore()
    await eventually(lambda: recovered(client), "the service works again")
    end.set()
    acknowledged = set().union(*await asyncio.gather(*posting))
    recorded = {str(row["event_id"]) for row in await database.fetch("SELECT event_id FROM event_log")}
    assert acknowledged
    assert acknowledged <= recorded


async def test_a_database_that_does_not_answer_is_waited_for_so_long_only(client: Client, proxy: Proxy) -> None:
    await post(client, event())
    proxy.swallow()
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(client, method, path) for method, path in REQUESTS))
    assert time.monotonic() - began < 20
    for answer in answers:
        await unavailable(answer)
    proxy.restore()
    await eventually(lambda: recovered(client), "the service works again")


@pytest.mark.parametrize("how", ["cut", "swallow"])
async def test_the_heartbeat_tells_and_comes_back(client: Client, proxy: Proxy, how: str) -> None:
    assert (await client.get("/__heartbeat__")).status in (200, 503)

    async def says(status: int, database: str, listener: str) -> bool:
        response = await client.get("/__heartbeat__")
        checks = (await response.json())["checks"]
        return (
            response.status == status
            and checks["database"].startswith(database)
            and checks["listener"].startswith(listener)
        )

    await eventually(lambda: says(200, "ok", "ok"), "the heartbeat is well")
    getattr(proxy, how)()
    await eventually(lambda: says(503, "unavailable", "not connected"), "the heartbeat tells what is wrong")
    proxy.restore()
    await eventually(lambda: says(200, "ok", "ok"), "the heartbeat is well again")


async def test_statements_that_are_cancelled_are_answered_with_503(client: Client, database: Connection) -> None:
    assert client.app is not None
    async with database.transaction():
        await database.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        await unavailable(await ask(client, "GET", "/v1/sessions"))
    assert (await ask(client, "GET", "/v1/sessions")).status == 200
    assert client.app[SERVICE].ingest.queued_events == 0
