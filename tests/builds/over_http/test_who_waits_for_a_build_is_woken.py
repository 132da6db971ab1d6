"""Prefer: wait=N answers as soon as the build changes, on any server, notified or not; waits are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.building import (
    OVER,
    PENDING,
    TwoServers,
    ask,
    asked,
    bring_to,
    cancel,
    claim,
    look,
    progress,
    served,
    service,
)
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, eventually
from usage_service.builds import requests as builds
from usage_service.builds import watching
from usage_service.shared import listener as listening
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import Connection as PoolConnection
from usage_service.web.preferences import parse_wait

pytestmark = pytest.mark.asyncio(loop_scope="module")
STATUS = {"succeeded": 303, "no_data": 303, "failed": 200, "cancelled": 200}


async def waiting(client: Client, number: int = 1) -> None:
    """Return once so many requests wait."""

    async def there() -> bool:
        return service(client).watch.waiting == number

    await eventually(there, f"{number} wait")


async def heard(client: Client, expected: bool = True) -> bool:
    return service(client).listener.connected == expected


@pytest.mark.parametrize("stage", OVER)
async def test_who_asks_is_answered_when_it_is_over(client: Client, database: Connection, stage: str) -> None:
    answer = asyncio.create_task(ask(client, Prefer="wait=30"))
    await waiting(client)
    build = await asked(client)
    attempt = None if stage == "cancelled" else await claim(database, build)
    if attempt is not None:
        await progress(database, build, attempt)
    assert not answer.done()
    await bring_to(database, build, stage, attempt)
    response = await answer
    assert (response.status, response.headers["Preference-Applied"]) == (STATUS[stage], "wait=30")
    assert (await response.json())["state"] == stage
    await waiting(client, 0)


async def test_the_answer_comes_with_the_notification(two_servers: TwoServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 600)
    servers = [two_servers.client, two_servers.other]
    for number in range(6):
        build = await asked(two_servers.client)
        server = servers[number % 2]
        answer = asyncio.create_task(look(server, build, Prefer="wait=30"))
        await waiting(server)
        await cancel(two_servers.database, build)
        async with asyncio.timeout(20):
            assert (await (await answer).json())["state"] == "cancelled"


async def test_who_has_seen_it_waits_for_a_change(client: Client, database: Connection) -> None:
    build = await asked(client)
    tag = (await look(client, build)).headers["ETag"]
    moves: list[Callable[[], Awaitable[object]]] = [
        partial(claim, database, build),
        partial(progress, database, build, 1),
    ]
    for move in moves:
        answer = asyncio.create_task(look(client, build, Prefer="wait=30", If_None_Match=tag))
        await waiting(client)
        await move()
        response = await answer
        assert (response.status, response.headers["Preference-Applied"]) == (200, "wait=30")
        assert response.headers["ETag"] != tag
        tag = response.headers["ETag"]
    old = await look(client, build, Prefer="wait=30", If_None_Match='"another"')
    assert (old.status, old.headers["ETag"]) == (200, tag)


@pytest.mark.parametrize("stage", OVER)
async def test_what_is_over_is_not_waited_for(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    response = await look(client, build, Prefer="wait=60", If_None_Match="*")
    assert response.status == (303 if STATUS[stage] == 303 else 304)
    assert response.headers["Preference-Applied"] == "wait=60"


async def test_after_the_time_it_is_answered_as_it_is(client: Client, database: Connection) -> None:
    build = await asked(client)
    tag = (await look(client, build)).headers["ETag"]
    posted, seen, same = await asyncio.gather(
        ask(client, Prefer="wait=1"),
        look(client, build, Prefer="wait=1"),
        look(client, build, Prefer="wait=1", If_None_Match=tag),
    )
    assert [response.status for response in (posted, seen, same)] == [202, 200, 304]
    for response in (posted, seen, same):
        assert response.headers["Preference-Applied"] == "wait=1"
        assert int(response.headers["Retry-After"]) >= 1


async def test_what_happened_meanwhile_is_in_the_answer(client: Client, database: Connection) -> None:
    build = await asked(client)
    answer = asyncio.create_task(look(client, build, Prefer="wait=3"))
    await waiting(client)
    await claim(database, build)
    assert (await (await answer).json())["state"] == "running"


async def test_a_lost_hint_costs_a_second(
    two_servers: TwoServers, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hear_nothing(self: Listener) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Listener, "run", hear_nothing)
    async with served(two_servers.url) as deaf:
        build, other = await asked(deaf), await asked(deaf, "slow_ms")
        answers = [asyncio.create_task(look(deaf, one, Prefer="wait=30")) for one in (build, other)]
        await waiting(deaf, 2)
        await cancel(database, other)
        async with asyncio.timeout(20):
            await answers[1]
        assert not answers[0].done()
        await cancel(database, build)
        await answers[0]


async def test_what_changes_before_it_is_waited_for_is_seen(
    two_servers: TwoServers, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 600)
    async with served(two_servers.url) as client:
        build = await asked(client)
        await cancel(database, build)
        await eventually(partial(heard, client), "it hears")
        for _ in range(2):
            async with asyncio.timeout(10):
                seen = await service(client).watch.change(build, lambda later: not later.pending, 600)
            assert seen is not None
            assert seen.state == "cancelled"


async def test_what_changes_while_nothing_is_heard_is_seen_on_reconnect(
    two_servers: TwoServers, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 600)
    monkeypatch.setattr(listening, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(listening, "PING_SECONDS", 1.0)
    async with proxied(two_servers.url) as (proxy, url), served(two_servers.url, listen_database_url=url) as client:
        build = await asked(client)
        answer = asyncio.create_task(look(client, build, Prefer="wait=60"))
        await waiting(client)
        proxy.cut()
        await eventually(partial(heard, client, False), "it hears nothing")
        await cancel(database, build)
        proxy.restore()
        async with asyncio.timeout(20):
            assert (await answer).status == 200


async def test_any_number_wait_with_one_query_a_poll(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Collection[UUID]] = []

    async def counted(connection: PoolConnection, build_ids: Collection[UUID]) -> list[builds.Build]:
        reads.append(build_ids)
        return await builds.find_builds(connection, build_ids)

    monkeypatch.setattr(service(client).watch, "read", counted)
    build = await asked(client)
    answers = [asyncio.create_task(look(client, build, Prefer="wait=30")) for _ in range(80)]
    await waiting(client, 80)
    before = len(reads)
    await cancel(database, build)
    assert {(await answer).status for answer in answers} == {200}
    assert 1 <= len(reads) <= before + 3


async def test_beyond_the_bound_the_preference_is_not_applied(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_WAITING", 2)
    build = await asked(client)
    answers = [asyncio.create_task(look(client, build, Prefer="wait=30")) for _ in range(2)]
    await waiting(client, 2)
    response = await look(client, build, Prefer="wait=30")
    assert (response.status, "Preference-Applied" in response.headers) == (200, False)
    await client.delete(f"/v1/builds/{build}")
    for answer in answers:
        assert (await answer).status == 200


async def test_a_caller_who_goes_waits_no_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CALLER_CHECK_SECONDS", 0.05)
    build = await asked(client)
    answer = asyncio.create_task(look(client, build, Prefer="wait=60"))
    await waiting(client)
    answer.cancel()
    await waiting(client, 0)


async def test_a_server_that_stops_answers_who_waits(two_servers: TwoServers) -> None:
    async with served(two_servers.url) as client:
        build = await asked(client)
        answer = asyncio.create_task(look(client, build, Prefer="wait=60"))
        await waiting(client)
        async with asyncio.timeout(30):  # half of what it would wait
            await client.server.close()
            assert (await answer).status == 200


async def test_with_the_database_away_a_wait_is_answered_and_the_next_works(
    two_servers: TwoServers, database: Connection
) -> None:
    async with proxied(two_servers.url) as (proxy, url), served(url) as client:
        build = await asked(client)
        short, long = (asyncio.create_task(look(client, build, Prefer=f"wait={seconds}")) for seconds in (4, 60))
        await waiting(client, 2)
        proxy.cut()
        response = await short
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        proxy.restore()
        await cancel(database, build)
        assert (await long).status == 200


async def test_a_notification_of_nonsense_harms_nobody(client: Client, database: Connection) -> None:
    build = await asked(client)
    answer = asyncio.create_task(look(client, build, Prefer="wait=30"))
    await waiting(client)
    await database.execute(
        "SELECT pg_notify('build_changed', p) FROM unnest(ARRAY['', 'nonsense', repeat('a', 7000)]) p"
    )
    await cancel(database, build)
    assert (await answer).status == 200


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, WAIT = 7 ; foo=bar, wait=9", 7),
        ('wait="8"', 8),
        ("wait=0", 0),
        ("wait=007", 7),
        ("wait=60", 60),
        ("wait=61", 60),
        ("wait=" + "9" * 5_000, 60),
        ('note="a, wait=3", wait=4', 4),
        ('note="a\\", wait=3', None),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=\xb2", None),
        ("handling=lenient", None),
        ("", None),
    ],
)
async def test_the_preference_is_read_as_rfc_7240_has_it(prefer: str, seconds: int | None) -> None:
    assert parse_wait(prefer) == seconds


@given(st.text(alphabet='wait=,;" \\5a', max_size=60))
async def test_any_preference_is_read(prefer: str) -> None:
    seconds = parse_wait(prefer)
    assert seconds is None or 0 <= seconds <= 60


@pytest.mark.parametrize("stage", PENDING)
async def test_a_preference_that_is_none_is_ignored(client: Client, database: Connection, stage: str) -> None:
    build = UUID((await (await ask(client, Prefer="wait=soon, handling=strict")).json())["build_id"])
    await bring_to(database, build, stage)
    response = await look(client, build, Prefer="wait=-1")
    assert (response.status, "Preference-Applied" in response.headers) == (200, False)
