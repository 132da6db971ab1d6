"""Streams of a build's events have each once, in order, across restarts and failures; they end with the build."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.build_streams import Seen, following
from tests.support.building import (
    OVER,
    TwoServers,
    ask,
    asked,
    bring_to,
    cancel,
    claim,
    complete,
    fail,
    history,
    progress,
    served,
    service,
)
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, drained_projections, eventually
from usage_service.builds import watching
from usage_service.shared import connecting
from usage_service.web import waiting
from usage_service.web.api import build_events

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_events_come_as_they_happen_and_end_when_it_is_over(client: Client, database: Connection) -> None:
    build = await asked(client)
    async with following(client, build) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-cache"
        await stream.read(1)
        attempt = await claim(database, build)
        await stream.read(2)
        for percent in (20, 80):
            await progress(database, build, attempt, percent)
        await stream.read(4)
        await complete(database, build, attempt)
        assert await stream.read() == await history(database, build)
    kinds = [kind for _, kind in stream.seen]
    assert kinds == ["build_requested", "build_started", *["build_progressed"] * 2, "build_succeeded"]
    assert stream.retry == ["2000"]
    assert [item["position"] for item in stream.data] == [position for position, _ in stream.seen]
    assert sorted(stream.data[3]) == ["data", "occurred_at", "position", "type"]
    assert (stream.data[3]["data"]["stage"], stream.data[3]["data"]["percent"]) == ("querying", 80)


@pytest.mark.parametrize("stage", OVER)
async def test_what_is_over_is_told_whole_and_then_204(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    expected = await history(database, build)
    async with following(client, build) as stream:
        assert await stream.read() == expected
    for query, headers in (("", {"Last-Event-ID": stream.last_id}), (f"?after={stream.last_id}", {})):
        response = await client.get(f"/v1/builds/{build}/events{query}", headers=headers)
        assert (response.status, await response.read()) == (204, b"")
    async with following(client, build, str(expected[0][0])) as stream:
        assert await stream.read() == expected[1:]


async def test_a_retry_to_come_does_not_end_it(client: Client, database: Connection) -> None:
    build = await asked(client)
    async with following(client, build) as stream:
        await fail(database, build, await claim(database, build), timedelta(0))
        await stream.read(3)
        await fail(database, build, await claim(database, build))
        assert await stream.read() == await history(database, build)
    assert [item["data"].get("final") for item in stream.data] == [None, None, False, None, True]


async def test_who_comes_back_after_a_later_retry_is_told_of_it(client: Client, database: Connection) -> None:
    build = await asked(client)
    await bring_to(database, build, "failed")
    async with following(client, build) as stream:
        failed = await stream.read()
    assert (await client.post(f"/v1/builds/{build}/retry")).status == 202
    async with following(client, build, stream.last_id) as stream, following(client, build) as whole:
        await stream.read(1)
        await cancel(database, build)
        assert failed + await stream.read() == await history(database, build)
        assert await whole.read() == await history(database, build)
    assert whole.seen[-2:] == stream.seen


async def drop_events(database: Connection, build: UUID) -> None:
    """Drop what the log has of a build, as retention does."""
    await drained_projections(database)
    await database.execute(
        "SELECT drop_events(array_agg(e ORDER BY position)) FROM event_log e WHERE data ->> 'build_id' = $1", str(build)
    )


@pytest.mark.parametrize("stage", OVER)
async def test_what_is_over_and_was_dropped_is_204(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    await drop_events(database, build)
    async with asyncio.timeout(20), client.get(f"/v1/builds/{build}/events") as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_what_goes_on_after_it_was_dropped_is_waited_for(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await asked(client)
    attempt = await claim(database, build)
    await drop_events(database, build)
    monkeypatch.setattr(build_events, "HEARTBEAT_SECONDS", 0.2)
    async with following(client, build) as stream:
        await stream.read(comments=2)  # which tell that it waits, and does not read for ever what is not there
        await complete(database, build, attempt)
        assert await stream.read() == await history(database, build)
    assert [kind for _, kind in stream.seen] == ["build_succeeded"]


async def test_last_event_id_goes_before_after(client: Client, database: Connection) -> None:
    build = await asked(client)
    await bring_to(database, build, "cancelled")
    first, last = await history(database, build)
    async with following(client, build, str(first[0]), query="?after=0") as stream:
        assert await stream.read() == [last]


async def test_across_restarts_no_event_is_missed_or_told_twice(two_servers: TwoServers, database: Connection) -> None:
    build = await asked(two_servers.client)
    attempt = await claim(database, build)
    told: Seen = []
    for percent in (10, 20, 30):
        async with (
            served(two_servers.url) as server,
            following(server, build, str(told[-1][0]) if told else None) as stream,
        ):
            await progress(database, build, attempt, percent)
            await stream.read(2)
            await progress(database, build, attempt, percent + 1)
            closing = asyncio.create_task(server.server.close())
            told += await stream.read()
            await closing
        await progress(database, build, attempt, percent + 2)
    await complete(database, build, attempt)
    async with following(two_servers.client, build, str(told[-1][0])) as stream:
        told += await stream.read()
    assert told == await history(database, build)


async def test_a_server_that_stops_ends_its_streams_at_once(two_servers: TwoServers) -> None:
    async with served(two_servers.url) as client:
        build = await asked(client)
        async with following(client, build) as stream:
            await stream.read(1)
            closing = asyncio.create_task(client.server.close())
            async with asyncio.timeout(20):
                await stream.read()
                await closing


@pytest.mark.parametrize("how", ["cut", "swallow"])
async def test_it_goes_on_after_trouble_of_the_database(
    two_servers: TwoServers, database: Connection, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(watching, "QUERY_SECONDS", 0.5)
    monkeypatch.setattr(build_events, "READ_SECONDS", 0.5)
    monkeypatch.setattr(build_events, "AFTER_FAILURE_SECONDS", 0.1)
    monkeypatch.setattr(build_events, "HEARTBEAT_SECONDS", 0.2)
    async with proxied(two_servers.url) as (proxy, url), served(url) as client:
        build = await asked(client)
        async with following(client, build) as stream:
            await stream.read(1)
            getattr(proxy, how)()
            attempt = await claim(database, build)
            await progress(database, build, attempt)
            await stream.read(comments=3)
            assert len(stream.seen) == 1
            proxy.restore()
            await stream.read(3)
            await complete(database, build, attempt)
            assert await stream.read() == await history(database, build)


async def test_a_quiet_stream_is_kept_open_by_comments(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build_events.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(build_events, "HEARTBEAT_SECONDS", 0.02)
    build = await asked(client)
    async with following(client, build) as stream:
        await stream.read(1)
        for _ in range(6):
            assert await stream.response.content.readline() in (b": nothing new\n", b"\n")
        await cancel(database, build)
        assert await stream.read() == await history(database, build)


async def test_beyond_the_bound_of_streams_it_is_429(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await asked(client)
    assert service(client).streams.most == 500
    monkeypatch.setattr(service(client).streams, "most", 2)
    async with following(client, build), following(client, build):
        response = await client.get(f"/v1/builds/{build}/events")
        body = await response.json()
        assert (response.status, response.content_type) == (429, "application/problem+json"), body
        assert int(response.headers["Retry-After"]) >= 1
        assert (await ask(client, Prefer="wait=0")).status == 202
        await cancel(database, build)
    await eventually(lambda: taken(client, 0), "the places are free again")
    async with following(client, build) as stream:
        assert len(await stream.read()) == 2


async def taken(client: Client, number: int) -> bool:
    return service(client).streams.taken == number


async def test_a_reader_that_goes_frees_its_place(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "CHECK_SECONDS", 0.05)
    build = await asked(client)
    async with following(client, build) as stream:
        await stream.read(1)
        assert await taken(client, 1)
        stream.response.close()
        await eventually(lambda: taken(client, 0), "the place is free")
    assert service(client).watch.waiting == 0


@pytest.mark.parametrize(
    ("headers", "query", "parameter"),
    [
        ([("Last-Event-ID", "abc")], "", "Last-Event-ID"),
        ([("Last-Event-ID", "")], "", "Last-Event-ID"),
        ([("Last-Event-ID", "-1")], "", "Last-Event-ID"),
        ([("Last-Event-ID", "9" * 19)], "", "Last-Event-ID"),
        ([("Last-Event-ID", "1"), ("Last-Event-ID", "2")], "", "Last-Event-ID"),
        ([], "?after=-1", "after"),
        ([], "?after=x", "after"),
        ([], "?since=1", "since"),
    ],
)
async def test_a_place_that_is_none_is_422_and_named(
    client: Client, headers: list[tuple[str, str]], query: str, parameter: str
) -> None:
    build = await asked(client)
    response = await client.get(f"/v1/builds/{build}/events{query}", headers=headers)
    body = await response.json()
    assert (response.status, body["errors"][0]["parameter"]) == (422, parameter)


async def test_many_streams_of_many_builds_tell_each_its_own(two_servers: TwoServers, database: Connection) -> None:
    servers = [two_servers.client, two_servers.other]
    builds = [await asked(two_servers.client, probe) for probe in ("gc_ms", "slow_ms", "gc_slice")]

    async def follow(number: int) -> tuple[UUID, Seen]:
        build = builds[number % 3]
        async with following(servers[number % 2], build) as stream:
            return build, await stream.read()

    streams = [asyncio.create_task(follow(number)) for number in range(30)]
    for build in builds:
        attempt = await claim(database, build)
        for percent in range(1, 100, 14):
            await progress(database, build, attempt, percent)
        await complete(database, build, attempt)
    for task in streams:
        build, seen = await task
        assert seen == await history(database, build)
