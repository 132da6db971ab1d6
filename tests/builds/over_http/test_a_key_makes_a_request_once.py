"""Idempotency-Key: a repeat is answered with the build of the first time, whatever became of it, and asks for none."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from tests.support.building import TwoServers, ask, asked, bring_to, problem, wanted
from tests.support.servers import Client, Connection, eventually
from tests.support.sessions import waiting

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_repeats_the_answer_of_the_first_time(client: Client, database: Connection) -> None:
    first = await ask(client, Idempotency_Key="mine ~")
    build = UUID((await first.json())["build_id"])
    again = await ask(client, Idempotency_Key="mine ~")
    assert (again.status, again.headers["Location"], await again.json()) == (
        202,
        f"/v1/builds/{build}",
        await first.json(),
    )
    await bring_to(database, build, "failed")
    failed = await ask(client, Idempotency_Key="mine ~")
    assert (failed.status, (await failed.json())["build_id"]) == (200, str(build))
    assert failed.headers["Content-Location"] == f"/v1/builds/{build}"
    anew = await asked(client)
    assert anew != build
    await bring_to(database, anew, "succeeded")
    assert (await (await ask(client, Idempotency_Key="mine ~")).json())["build_id"] == str(build)


@pytest.mark.parametrize(
    ("stage", "status"), [("running", 202), ("succeeded", 303), ("no_data", 303), ("cancelled", 200)]
)
async def test_a_key_follows_its_build(client: Client, database: Connection, stage: str, status: int) -> None:
    build = UUID((await (await ask(client, Idempotency_Key="k")).json())["build_id"])
    await bring_to(database, build, stage)
    response = await ask(client, Idempotency_Key="k")
    assert (response.status, (await response.json())["build_id"]) == (status, str(build))


async def test_a_key_of_another_request_is_422_and_named(client: Client, database: Connection) -> None:
    await ask(client, Idempotency_Key="k")
    body = await problem(await ask(client, "slow_ms", Idempotency_Key="k"), 422)
    assert body["errors"][0]["parameter"] == "Idempotency-Key"
    assert await database.fetchval("SELECT count(*) FROM builds") == 1


async def test_a_key_whose_request_was_refused_may_be_used_again(client: Client) -> None:
    await problem(await ask(client, "gc_msec", Idempotency_Key="k"), 404)
    assert (await ask(client, Idempotency_Key="k")).status == 202


async def test_one_key_at_the_same_time_is_one_request(two_servers: TwoServers, database: Connection) -> None:
    servers, probes = [two_servers.client, two_servers.other], ["gc_ms", "slow_ms"]

    async def several_wait() -> bool:
        return await waiting(database) >= 8

    async with database.transaction():
        await database.execute("SELECT lock_event_log()")  # whoever goes on to record a request waits for this
        requests = [
            asyncio.create_task(ask(servers[number % 2], probes[number // 2 % 2], Idempotency_Key="k"))
            for number in range(40)
        ]
        await eventually(several_wait, "several are at it")
    answers = [await request for request in requests]
    places = {(response.status, response.headers.get("Location")) for response in answers}
    assert sorted(status for status, _ in places) == [202, 422]
    assert sum(response.status == 202 for response in answers) == 20
    assert await database.fetchval("SELECT count(*) FROM builds") == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "caf\xe9", "a\tb"])
async def test_what_is_no_key_is_422_and_named(client: Client, database: Connection, key: str) -> None:
    body = await problem(await ask(client, Idempotency_Key=key), 422)
    assert body["errors"][0]["parameter"] == "Idempotency-Key"
    assert await database.fetchval("SELECT count(*) FROM builds") == 0


async def test_two_keys_are_422(client: Client) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    body = await problem(await client.post("/v1/builds", json=wanted(), headers=headers), 422)
    assert body["errors"][0] == {"parameter": "Idempotency-Key", "detail": "is given twice"}
