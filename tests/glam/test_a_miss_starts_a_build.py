"""A data request that finds nothing starts the build of its probe, within limits, and asked again finds the rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import ClientResponse

from tests.support.building import (
    TwoServers,
    ask,
    bring_to,
    claim,
    complete,
    open_two_servers,
    problem,
    served,
    without_builds,
)
from tests.support.servers import Client, JsonObject, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

ON: dict[str, Any] = {"build_misses": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="opened")
async def open_servers(module_database_url: str) -> AsyncIterator[TwoServers]:
    async with open_two_servers(module_database_url) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module", name="servers")
async def servers_without_builds(opened: TwoServers) -> TwoServers:
    await opened.database.execute("DELETE FROM miss_allowances; DELETE FROM warehouse_days")
    return await without_builds(opened)


@pytest_asyncio.fixture(loop_scope="module", name="client")
async def client_of_a_server_that_builds_misses(servers: TwoServers) -> AsyncIterator[Client]:
    async with served(servers.url, **ON, miss_builds_a_day=2, miss_bytes_a_day=1_000) as client:
        yield client


async def view(client: Client, probe: str = "gc_ms", visitor: str | None = None) -> ClientResponse:
    query = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": probe, "aggregationLevel": "version"}
    headers = {"Usage-Visitor": visitor} if visitor else {}
    return await client.post("/api/v1/data/", json={"query": query}, headers=headers)


async def missed(client: Client, probe: str = "gc_ms", visitor: str | None = None) -> JsonObject:
    return await problem(await view(client, probe, visitor), 404)


async def builds(servers: TwoServers) -> list[str]:
    rows = await servers.database.fetch("SELECT probe FROM builds ORDER BY requested_at")
    return [row["probe"] for row in rows]


async def test_a_miss_starts_a_build_and_asked_again_finds_its_rows(servers: TwoServers, client: Client) -> None:
    response = await view(client)
    body = await problem(response, 404)
    assert body["detail"] == "No documents found for the given parameters"
    assert response.headers["Link"] == f'<{body["build"]}>; rel="monitor"'
    assert response.headers["Retry-After"] == str(body["retry_after"])
    assert (await (await client.get(body["build"])).json())["probe"] == "gc_ms"
    build = UUID(body["build"].rpartition("/")[2])
    await complete(servers.database, build, await claim(servers.database, build))
    answer = await view(client)
    assert answer.status == 200
    assert [row["version"] for row in (await answer.json())["response"]] == [140]


async def test_without_the_setting_nothing_is_started(servers: TwoServers) -> None:
    response = await view(servers.client)
    assert "build" not in await problem(response, 404)
    assert response.headers["Link"] == '</v1/builds>; rel="create-form"'
    assert await builds(servers) == []


async def test_a_crowd_on_one_probe_is_one_build(servers: TwoServers, client: Client) -> None:
    bodies = await asyncio.gather(*(missed(client) for _ in range(20)))
    assert len({body["build"] for body in bodies}) == 1
    assert await builds(servers) == ["gc_ms"]
    assert (await missed(client, "slow_ms"))["state"] == "queued"  # the crowd used up one of the two


@pytest.mark.parametrize(
    ("probe", "why"), [("use_counter_x", "hidden"), ("nothing_like_it", "no such probe"), ("a_flag", "not aggregated")]
)
async def test_what_is_not_built_starts_nothing(servers: TwoServers, client: Client, probe: str, why: str) -> None:
    for _ in range(3):
        assert why in (await missed(client, probe))["not_started"]
    assert await builds(servers) == []
    assert (await missed(client))["state"] == "queued"  # and nothing of the allowance is used up


async def test_who_is_erased_has_started_nothing(servers: TwoServers, client: Client) -> None:
    for visitor in ("v1", "v2"):
        assert (await missed(client, "gc_ms" if visitor == "v1" else "slow_ms", visitor))["state"] == "queued"
    await post(client, event("visitor_erased", visitor="v1", product=None, data={}))
    assert await servers.database.fetchval("SELECT count(*) FROM miss_allowances") == 1


async def test_each_visitor_starts_so_many_a_day_and_those_without_one_share(
    servers: TwoServers, client: Client
) -> None:
    for visitor, prefix in ((None, 0), ("v1", 10), ("v2", 20)):
        for number in range(2):
            assert (await missed(client, f"probe_{prefix + number}", visitor))["state"] == "queued"
        assert "so many builds" in (await missed(client, f"probe_{prefix + 2}", visitor))["not_started"]
        assert (await missed(client, f"probe_{prefix}", visitor))["state"] == "queued"  # joining is no start
    assert len(await builds(servers)) == 6
    await servers.database.execute("UPDATE miss_allowances SET day = day - 1")
    assert (await missed(client, "probe_2"))["state"] == "queued"
    assert await servers.database.fetchval("SELECT count(*) FROM miss_allowances") == 1


async def test_nothing_is_started_after_so_many_bytes_of_a_day(servers: TwoServers, client: Client) -> None:
    build = UUID((await missed(client))["build"].rpartition("/")[2])
    await bring_to(servers.database, build, "succeeded")  # which read 1,000 bytes
    assert "so many builds" in (await missed(client, "slow_ms"))["not_started"]
    assert (await ask(client, "slow_ms")).status == 202  # people ask all the same


@pytest.mark.parametrize("end", ["failed", "cancelled", "no_data"])
async def test_one_that_is_over_is_not_begun_again_that_day(servers: TwoServers, client: Client, end: str) -> None:
    first = await missed(client)
    await bring_to(servers.database, UUID(first["build"].rpartition("/")[2]), end)
    response = await view(client)
    body = await problem(response, 404)
    assert (body["build"], body["state"], body["retry_after"]) == (first["build"], end, None)
    assert "Retry-After" not in response.headers
    assert await builds(servers) == ["gc_ms"]


async def test_a_miss_is_built_in_the_order_of_people_and_before_what_nobody_waits_for(
    servers: TwoServers, client: Client
) -> None:
    for probe in ("probe_0", "gc_ms"):
        await servers.database.execute("SELECT request_build('fog', 'nightly', $1, 'test', prefetch => true)", probe)
    await ask(client, "slow_ms")
    await missed(client, "gc_ms")
    await missed(client, "probe_1")
    rows = await servers.database.fetch(
        "SELECT probe FROM claim_build('w', interval '1 minute', 9) ORDER BY prefetched, not_before"
    )
    assert [row["probe"] for row in rows] == ["slow_ms", "gc_ms", "probe_1", "probe_0"]
