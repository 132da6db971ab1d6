"""Requests that come together share one commit; none can fail, delay or lose another's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.conftest import Start
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post
from tests.support.sessions import waiting
from usage_service.shared.postgres import connect
from usage_service.shared.settings import ServerSettings
from usage_service.web.keys import SERVICE

REQUESTS = 200


@asynccontextmanager
async def log_held(database_url: str) -> AsyncIterator[None]:
    """Hold the log's lock, so that no other session can append."""
    holder = await connect(database_url, application="holder")
    try:
        async with holder.transaction():
            await holder.execute("SELECT lock_event_log()")
            yield
    finally:
        await holder.close()


async def waiting_for_the_log(database: Connection) -> bool:
    return await waiting(database, table="event_log_lock") > 0


async def post_one(client: Client, body: JsonObject) -> int:
    async with client.post("/v1/events", json=[body]) as response:
        await response.read()
        return response.status


@asynccontextmanager
async def refusing(database: Connection) -> AsyncIterator[None]:
    """Make the database refuse events of type x_poison, which the service cannot foresee."""
    await database.execute("ALTER TABLE event_log ADD CONSTRAINT no_poison CHECK (type <> 'x_poison')")
    try:
        yield
    finally:
        await database.execute("ALTER TABLE event_log DROP CONSTRAINT no_poison")


async def test_concurrent_requests_are_far_fewer_commits(
    client: Client, database: Connection, database_url: str
) -> None:
    async with log_held(database_url):
        first = asyncio.create_task(post_one(client, event()))
        await eventually(lambda: waiting_for_the_log(database), "the first request waits for the log")
        rest = [asyncio.create_task(post_one(client, event())) for _ in range(REQUESTS - 1)]
        await eventually(lambda: queued(client, 50), "requests are queued behind it")
    assert await asyncio.gather(first, *rest) == [201] * REQUESTS
    commits, events = await database.fetchrow("SELECT count(DISTINCT xmin::text), count(*) FROM event_log") or (0, 0)
    assert events == REQUESTS
    assert commits <= REQUESTS / 4


async def queued(client: Client, at_least: int) -> bool:
    assert client.app is not None
    return client.app[SERVICE].ingest.queued_events >= at_least


async def test_an_event_that_the_database_refuses_takes_nobody_along(
    client: Client, database: Connection, database_url: str
) -> None:
    async with refusing(database):
        async with log_held(database_url):
            first = asyncio.create_task(post_one(client, event()))
            await eventually(lambda: waiting_for_the_log(database), "the first request waits for the log")
            bodies = [event("x_poison" if n % 10 == 3 else "x_fine", data={}) for n in range(40)]
            tasks = [asyncio.create_task(post_one(client, body)) for body in bodies]
            await eventually(lambda: queued(client, 40), "the others wait for one commit")
        statuses = await asyncio.gather(first, *tasks)
    assert statuses == [201, *(422 if body["type"] == "x_poison" else 201 for body in bodies)]
    assert await database.fetchval("SELECT count(*) FROM event_log") == 1 + 36


async def test_the_neighbours_in_one_request_are_recorded_too(client: Client, database: Connection) -> None:
    async with refusing(database):
        response = await client.post("/v1/events", json=[event(), event("x_poison", data={}), event()])
    items = (await response.json())["events"]
    assert response.status == 207
    assert [item["status"] for item in items] == ["recorded", "refused", "recorded"]
    assert "no_poison" in items[1]["error"]["detail"]
    assert [item["position"] for item in (items[0], items[2])] == [
        row["position"] for row in await database.fetch("SELECT position FROM event_log ORDER BY position")
    ]


async def test_a_full_queue_is_429_and_loses_nothing_acknowledged(
    start: Start, settings: ServerSettings, database: Connection, database_url: str
) -> None:
    client = await start(msgspec.structs.replace(settings, queue_events=1_000))
    batches = [[event("x_a", data={}) for _ in range(300)] for _ in range(12)]
    async with log_held(database_url):
        first = asyncio.create_task(post_one(client, event()))
        await eventually(lambda: waiting_for_the_log(database), "the first request waits for the log")
        tasks = [asyncio.create_task(client.post("/v1/events", json=batch)) for batch in batches]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    answers = await asyncio.gather(*tasks)
    assert await first == 201
    assert {answer.status for answer in answers} == {201, 429}
    for answer in answers:
        if answer.status == 429:
            assert answer.content_type == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
    recorded = {str(row["event_id"]) for row in await database.fetch("SELECT event_id FROM event_log")}
    for batch, answer in zip(batches, answers, strict=True):
        assert {body["event_id"] in recorded for body in batch} == {answer.status == 201}
    assert await queued(client, 0)
    await post(client, event())


async def test_a_client_that_goes_does_not_disturb_the_others(
    client: Client, database: Connection, database_url: str
) -> None:
    async with log_held(database_url):
        first = asyncio.create_task(post_one(client, event()))
        await eventually(lambda: waiting_for_the_log(database), "the first request waits for the log")
        leaving = [asyncio.create_task(post_one(client, event())) for _ in range(10)]
        staying = [asyncio.create_task(post_one(client, event())) for _ in range(10)]
        await eventually(lambda: queued(client, 20), "all wait for one commit")
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving, timeout=20)
    assert await first == 201
    assert await asyncio.gather(*staying) == [201] * 10
    assert all(task.cancelled() for task in leaving)
    await post(client, event())


@pytest.mark.parametrize("leaving", [0, 1])
async def test_a_waiter_that_is_cancelled_leaves_the_rest_in_the_queue(
    client: Client, database: Connection, database_url: str, leaving: int
) -> None:
    assert client.app is not None
    service = client.app[SERVICE]
    async with log_held(database_url):
        first = asyncio.create_task(post_one(client, event()))
        await eventually(lambda: waiting_for_the_log(database), "the first request waits for the log")
        tasks = [asyncio.create_task(post_one(client, event())) for _ in range(2)]
        await eventually(lambda: queued(client, 2), "both wait")
        tasks[leaving].cancel()
        await asyncio.wait([tasks[leaving]], timeout=20)
    assert await first == 201
    assert await tasks[1 - leaving] == 201
    await eventually(lambda: empty(service.ingest.queued_events), "the queue is empty")


async def test_nothing_to_record_is_answered_at_once_and_the_rest_is_recorded_as_ever(client: Client) -> None:
    assert client.app is not None
    nothing = client.app[SERVICE].ingest.enqueue([])
    assert (nothing.done(), await nothing) == (True, [])
    await post(client, event())
    response = await client.post("/v1/events", json=[event(probe="?")])
    assert response.status == 422
    await post(client, event())


async def empty(queued_events: int) -> bool:
    return queued_events == 0
