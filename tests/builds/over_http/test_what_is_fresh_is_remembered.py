"""Requests for fresh builds are answered without the database, and a moment later with their current state."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.support.building import ask, asked, service
from tests.support.servers import Client, Connection
from usage_service.builds import fresh as fresh_builds
from usage_service.builds.fresh import FreshBuilds
from usage_service.builds.requests import find_build

pytestmark = pytest.mark.asyncio(loop_scope="module")

WANTED = ("fog", "nightly", "gc_ms")


async def built(client: Client, database: Connection) -> None:
    """Make a build that is over and was answered as fresh."""
    build = await asked(client)
    await database.execute("SELECT claim_build('tests', interval '1 min')")
    await database.execute("SELECT complete_build($1, 1, 0)", build)
    assert (await ask(client)).status == 303


async def test_the_database_is_not_asked_again(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_builds, "FRESH_SECONDS", 3_600.0)
    await built(client, database)
    first = await ask(client)
    pool = service(client).pool  # from where nothing is to be had
    connections = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        async with asyncio.timeout(20):
            again = [await ask(client) for _ in range(20)]
    finally:
        for connection in connections:
            await pool.release(connection)
    assert {answer.status for answer in again} == {303}
    assert {await answer.read() for answer in again} == {await first.read()}
    assert {answer.headers["Location"] for answer in again} == {first.headers["Location"]}


async def test_a_day_ends_for_what_is_remembered(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_builds, "FRESH_SECONDS", 0.0)
    await built(client, database)
    await database.execute("UPDATE builds SET finished_at = finished_at - $1::interval", timedelta(days=1))
    assert (await ask(client)).status == 202


async def test_a_key_is_asked_about_in_the_database(client: Client, database: Connection) -> None:
    await built(client, database)
    assert (await ask(client, Idempotency_Key="one")).status == 303
    assert await database.fetchval("SELECT count(*) FROM build_keys") == 1


async def test_what_is_remembered_is_bounded(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_builds, "MOST_REMEMBERED", 2)
    monkeypatch.setattr(fresh_builds, "FRESH_SECONDS", 3_600.0)
    build = await find_build(database, await asked(client))
    assert build is not None
    fresh, now = FreshBuilds(), asyncio.get_running_loop().time()
    for probe in ("one", "two", "one", "three"):
        fresh.remember((*WANTED[:2], probe), build, now)
    assert [fresh.find((*WANTED[:2], probe)) for probe in ("one", "two", "three")] == [build, None, build]
