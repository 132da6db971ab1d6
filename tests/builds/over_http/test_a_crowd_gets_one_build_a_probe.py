"""Requests for the same probes at once, on any number of servers, share one build a probe and one answer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from uuid import UUID

import pytest
from aiohttp import ClientResponse, ClientSession, TCPConnector
from yarl import URL

from tests.support.building import TwoServers, claim, complete, history, wanted
from tests.support.servers import Connection, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBES = [f"probe_{number}" for number in range(50)]
REQUESTS = 400
ATTEMPTS = 100


async def there_is_one(database: Connection) -> bool:
    return bool(await database.fetchval("SELECT count(*) = 1 FROM builds"))


async def asked(session: ClientSession, url: URL, probe: str, prefer: str = "") -> ClientResponse:
    """Request a build; on 503 from a busy server, request it again as Retry-After says."""
    for _ in range(ATTEMPTS):
        response = await session.post(url, json=wanted(probe), headers={"Prefer": prefer}, allow_redirects=False)
        if response.status != 503:
            return response
        response.release()
        await asyncio.sleep(int(response.headers["Retry-After"]))
    raise AssertionError(f"{probe}: the server is still too busy")


@pytest.mark.timeout(300)
async def test_hundreds_of_requests_for_fifty_probes_are_fifty_builds(two_servers: TwoServers) -> None:
    servers, database = [two_servers.client, two_servers.other], two_servers.database
    answers: dict[str, set[tuple[int, str]]] = defaultdict(set)

    async def one(session: ClientSession, number: int) -> None:
        probe, server = PROBES[number % 50], servers[number // 50 % 2]
        async with await asked(session, server.make_url("/v1/builds"), probe) as response:
            body = await response.json()
            assert response.headers["Location"] == f"/v1/builds/{body['build_id']}"
            assert 1 <= int(response.headers["Retry-After"]) <= 60
            answers[probe].add((response.status, body["build_id"]))

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session, number) for number in range(REQUESTS)))
    rows = await database.fetch("SELECT probe, build_id FROM builds")
    assert len(rows) == 50
    assert answers == {row["probe"]: {(202, str(row["build_id"]))} for row in rows}
    for row in rows:
        assert [kind for _, kind in await history(database, row["build_id"])] == ["build_requested"]


async def test_a_crowd_that_waits_on_two_servers_is_answered_alike(
    two_servers: TwoServers,
) -> None:
    servers, database = [two_servers.client, two_servers.other], two_servers.database

    async def one(session: ClientSession, number: int) -> tuple[int, str, str]:
        url = servers[number % 2].make_url("/v1/builds")
        async with await asked(session, url, "gc_ms", "wait=30") as response:
            return response.status, response.headers["Location"], (await response.json())["build_id"]

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        answers = [asyncio.create_task(one(session, number)) for number in range(100)]
        await eventually(lambda: there_is_one(database), "the build is there")
        build: UUID = await database.fetchval("SELECT build_id FROM builds")
        await complete(database, build, await claim(database, build))
        told = {await answer for answer in answers}
    assert told == {(303, "/v1/probes/fog/gc_ms?channel=nightly", str(build))}
