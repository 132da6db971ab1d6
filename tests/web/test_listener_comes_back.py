"""The listener notices a lost connection, comes back, and has its owner look for what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from tests.support.proxy import proxied
from tests.support.servers import Connection, eventually
from usage_service.shared import connecting
from usage_service.shared import listener as listening
from usage_service.shared.listener import Listener

Wakes = list[tuple[str | None, str]]
MINE = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%listener'"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(listening, "PING_SECONDS", 2.0)
    monkeypatch.setattr(listening, "LONGEST_BACKOFF_SECONDS", 0.2)
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[tuple[Listener, Wakes]]:
    wakes: Wakes = []
    listener = Listener(url, ["news", "more_news"], lambda channel, payload: wakes.append((channel, payload)))
    task = asyncio.create_task(listener.run())
    try:
        await eventually(connected(listener), "the listener is connected")
        yield listener, wakes
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()


def connected(listener: Listener, expected: bool = True) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return listener.connected == expected

    return check


async def heard(wakes: Wakes, number: int) -> bool:
    return len(wakes) >= number


async def test_it_hears_every_channel_and_looks_at_the_start(database: Connection, database_url: str) -> None:
    async with running(database_url) as (_, wakes):
        assert wakes == [(None, "")]
        await database.execute("NOTIFY news, 'one'; NOTIFY more_news, 'two'; NOTIFY other, 'three'")
        await eventually(lambda: heard(wakes, 3), "both are heard")
        assert wakes == [(None, ""), ("news", "one"), ("more_news", "two")]


async def test_terminated_it_comes_back_and_looks(database: Connection, database_url: str) -> None:
    async with running(database_url) as (_, wakes):
        for number in range(2, 5):
            for session in await database.fetch(MINE):  # and what another test has left
                await database.execute("SELECT pg_terminate_backend($1)", session["pid"])
            await eventually(partial(heard, wakes, number), "it looks after it reconnected")
        assert wakes == [(None, "")] * 4
        await database.execute("NOTIFY news, 'after'")
        await eventually(lambda: heard(wakes, 5), "it hears again")
        assert wakes[-1] == ("news", "after")


async def test_a_connection_that_swallows_everything_is_noticed(database: Connection, database_url: str) -> None:
    async with proxied(database_url) as (proxy, url), running(url) as (listener, wakes):
        proxy.swallow()
        await database.execute("NOTIFY news, 'lost'")
        await eventually(connected(listener, expected=False), "the dead connection is noticed")
        assert wakes == [(None, "")]
        proxy.restore()
        await eventually(connected(listener), "it is connected again")
        assert wakes[1] == (None, "")


async def test_while_it_is_refused_it_keeps_trying(database_url: str) -> None:
    async with proxied(database_url) as (proxy, url), running(url) as (listener, wakes):
        proxy.cut()
        await eventually(connected(listener, expected=False), "the cut is noticed")
        accepted = proxy.accepted

        async def tried() -> bool:
            return proxy.accepted >= accepted + 3

        await eventually(tried, "it tries again and again")
        proxy.restore()
        await eventually(connected(listener), "it is connected again")
        assert wakes == [(None, "")] * 2


@pytest.mark.parametrize("state", ["connected", "swallowed", "refused"])
async def test_cancelled_it_ends_and_leaves_no_connection(database: Connection, database_url: str, state: str) -> None:
    async with proxied(database_url) as (proxy, url):
        async with running(url):
            if state == "swallowed":
                proxy.swallow()
            elif state == "refused":
                proxy.cut()
        proxy.restore()

    async def gone() -> bool:
        return not await database.fetch(MINE)

    await eventually(gone, "its connection is closed")


def test_it_is_back_within_five_seconds_of_the_database() -> None:
    assert listening.LONGEST_BACKOFF_SECONDS < 5
