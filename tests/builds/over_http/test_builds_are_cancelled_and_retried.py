"""A pending build is cancelled at every stage, a failed one tried again; any other is a conflict that says why."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.support.building import OVER, PENDING, asked, bring_to, claim, history, problem
from tests.support.servers import Client, Connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

HAS_RUN = ("running", "progressed", "waiting_again")


@pytest.mark.parametrize("stage", PENDING)
async def test_deleting_cancels_at_every_stage(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    response = await client.delete(f"/v1/builds/{build}")
    body = await response.json()
    assert (response.status, body["build_id"], body["state"]) == (202, str(build), "cancelled")
    assert body["finished_at"]
    position, kind = (await history(database, build))[-1]
    assert (kind, response.headers["Log-Position"]) == ("build_cancelled", str(position))
    if stage in HAS_RUN:
        assert not await database.fetch("SELECT * FROM claim_build('another', interval '1 s')")
    assert await asked(client) != build


@pytest.mark.parametrize("stage", OVER)
async def test_what_is_over_is_409_to_cancel(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    before = await history(database, build)
    body = await problem(await client.delete(f"/v1/builds/{build}"), 409)
    assert body["state"] == stage
    assert stage in body["detail"]
    assert await history(database, build) == before


async def test_of_many_who_cancel_one_does(client: Client, database: Connection) -> None:
    build = await asked(client)
    statuses = [r.status for r in await asyncio.gather(*(client.delete(f"/v1/builds/{build}") for _ in range(8)))]
    assert sorted(statuses) == [202] + [409] * 7
    assert [kind for _, kind in await history(database, build)] == ["build_requested", "build_cancelled"]


async def test_a_failed_build_is_retried(client: Client, database: Connection) -> None:
    build = await asked(client)
    await bring_to(database, build, "failed")
    response = await client.post(f"/v1/builds/{build}/retry")
    body = await response.json()
    assert (response.status, body["build_id"], body["state"]) == (202, str(build), "queued")
    assert response.headers["Location"] == f"/v1/builds/{build}"
    assert int(response.headers["Retry-After"]) >= 1
    assert await claim(database, build) == 2


@pytest.mark.parametrize("stage", ["queued", "running", "succeeded", "no_data", "cancelled"])
async def test_what_did_not_fail_is_409_to_retry(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    body = await problem(await client.post(f"/v1/builds/{build}/retry", json={}), 409)
    assert (body["state"], stage in body["detail"]) == (stage, True)


async def test_a_failed_build_whose_probe_is_built_again_is_409_to_retry(client: Client, database: Connection) -> None:
    build = await asked(client)
    await bring_to(database, build, "failed")
    other = await asked(client)
    await problem(await client.post(f"/v1/builds/{build}/retry"), 409)
    assert await database.fetchval("SELECT state FROM builds WHERE build_id = $1", other) == "queued"


async def test_a_body_that_a_retry_does_not_take_is_named(client: Client) -> None:
    found = await problem(await client.post(f"/v1/builds/{uuid4()}/retry", json={"now": True}), 422)
    assert found["errors"][0]["pointer"] == "/now"
