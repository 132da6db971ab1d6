"""GET and DELETE /v1/nights: what became of each probe of a list, how far the jobs are, and when it will be over."""

from __future__ import annotations

import asyncio
import csv
from uuid import uuid4

import pytest
from aiohttp import ClientResponse

from tests.support.building import look, problem, service
from tests.support.night_calls import LEASE, claim_jobs, complete_job, night_of, plan
from tests.support.servers import Client, Connection, JsonObject, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def get(client: Client, path: object, status: int = 200, **headers: str) -> ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.get(f"/v1/nights{path}", headers=named)
    assert response.status == status, await response.text()
    return response


async def body(client: Client, path: object) -> JsonObject:
    answer: JsonObject = await (await get(client, path)).json()
    return answer


async def test_a_build_of_a_night_says_to_come_back_when_its_job_is_done(client: Client, database: Connection) -> None:
    """The job does 20 bytes a second: 20 are left of the first one, and the 1,000 of the second come after them."""
    await night_of(database, "gc_ms", "slow_ms", "gc_slice")
    await plan(database, ["gc_ms", "slow_ms"], ["gc_slice"])
    [first] = await claim_jobs(database, 1)
    assert (await look(client, first["builds"][0])).headers["Retry-After"] == "1"  # nothing is known yet
    await database.execute(
        "UPDATE shared_jobs SET started_at = started_at - interval '99 seconds' WHERE state = 'running'"
    )
    await database.execute(
        "SELECT heartbeat_shared_job($1, $2, $3, 'storing', 99, 700)", first["job_id"], first["attempt"], LEASE
    )
    second = await database.fetchval("SELECT builds[1] FROM shared_jobs WHERE state = 'queued'")
    soon, later = [int((await look(client, one)).headers["Retry-After"]) for one in (first["builds"][0], second)]
    assert 1 <= soon <= 5
    assert 51 <= later <= 60


async def test_a_night_tells_how_far_it_is(client: Client, database: Connection) -> None:
    night = await night_of(database, "gc_ms", "slow_ms", "gc_slice", "probe_1", "no_such_ms")
    planned = await body(client, f"/{night}")
    assert (planned["state"], planned["jobs"], planned["seconds_left"]) == ("planning", [], None)
    assert (planned["totals"]["probes"], planned["totals"]["to_build"]) == (5, 4)
    await plan(database, ["gc_ms", "slow_ms"], ["gc_slice"], left=["probe_1"])
    [first] = await claim_jobs(database, 1)
    running = await body(client, f"/{night}")
    assert (running["state"], running["seconds_left"]) == ("running", None)  # nothing is known yet of how fast it is
    assert [(job["state"], job["probes"]) for job in running["jobs"]] == [("running", 2), ("queued", 1)]
    before = await look(client, first["builds"][0])
    await database.execute(
        "UPDATE shared_jobs SET started_at = started_at - interval '30 minutes' WHERE state = 'running'"
    )
    await database.execute(
        "SELECT heartbeat_shared_job($1, $2, $3, 'querying', 50, 700)", first["job_id"], first["attempt"], LEASE
    )
    halfway = await body(client, f"/{night}")  # half of two thirds in half an hour: the other two thirds in an hour
    assert 3_600 <= halfway["seconds_left"] < 7_200
    assert (halfway["totals"]["bytes"], halfway["totals"]["expected_bytes"]) == (700, 3_000)
    later = await look(client, first["builds"][0], If_None_Match=before.headers["ETag"])
    assert later.status == 200
    build = await later.json()
    assert build["shared_job"] == {
        "job_id": str(first["job_id"]), "night_id": str(night), "state": "running", "percent": 50,
    }  # fmt: skip
    await complete_job(database, first)
    for job in await claim_jobs(database):
        held = job["job_id"], job["attempt"]
        assert await database.fetchval("SELECT fail_shared_job($1, $2, 'wrong', 'no such column')", *held) == "failed"
    assert await database.fetchval("SELECT end_nights()") == 1
    over = await body(client, f"/{night}")
    assert (over["state"], over["seconds_left"], over["error"]) == ("over", None, None)
    assert over["totals"] == {
        "probes": 5, "to_build": 0, "built": 2, "without_data": 0, "failed": 1, "cancelled": 0, "probes_left": 1,
        "not_needed": 1, "jobs": 2, "jobs_over": 2, "bytes": 1_000, "expected_bytes": 3_000,
    }  # fmt: skip
    listed = await body(client, f"/{night}/probes")
    assert [(one["probe"], one["outcome"], one["state"], one["bytes"]) for one in listed["probes"]] == [
        ("gc_ms", "listed", "succeeded", 1_000), ("slow_ms", "listed", "succeeded", 1_000),
        ("gc_slice", "listed", "failed", 1_000), ("probe_1", "left", None, 10**9),
        ("no_such_ms", "unknown", None, None),
    ]  # fmt: skip
    lines = csv.DictReader((await (await get(client, f"/{night}/probes?format=csv")).text()).splitlines())
    assert [row["finished_at"] for row in lines] == [one["finished_at"] or "" for one in listed["probes"]]
    assert [one["reason"] for one in listed["probes"]] == [
        None, None, "no such column", "it does not fit into the bytes that the night may read",
        "the catalogue has no such probe",
    ]  # fmt: skip


async def test_probes_come_in_pages_and_as_csv(client: Client, database: Connection) -> None:
    probes = [f"probe_{number}" for number in range(5)]
    night = await night_of(database, *probes, "no_such_ms")
    found, path = [], f"/{night}/probes?outcome=listed&limit=2"
    while path:
        response = await get(client, path.removeprefix("/v1/nights"))
        page = await response.json()
        assert len(page["probes"]) <= 2
        found += [one["probe"] for one in page["probes"]]
        path = page["next"] or ""
        assert response.headers.get("Link") == (f'<{path}>; rel="next"' if path else None)
    assert found == probes
    response = await get(client, f"/{night}/probes?format=csv")
    assert response.content_type == "text/csv"
    rows = list(csv.DictReader((await response.text()).splitlines()))
    assert [(row["place"], row["probe"], row["outcome"]) for row in rows[4:]] == [
        ("5", "probe_4", "listed"), ("6", "no_such_ms", "unknown"),
    ]  # fmt: skip
    for wrong, parameter in (("outcome=odd", "outcome"), ("limit=0", "limit"), ("format=xml", "format"), ("x=1", "x")):
        found_wrong = await problem(await client.get(f"/v1/nights/{night}/probes?{wrong}"), 422)
        assert found_wrong["errors"][0]["parameter"] == parameter


async def test_nights_are_listed_once_each(client: Client, database: Connection) -> None:
    nights = []
    for number in range(3):
        nights.append(await night_of(database, "gc_ms", channel="beta" if number == 1 else "nightly"))
        await database.execute("SELECT cancel_night($1)", nights[-1])
    await database.execute("UPDATE nights SET requested_at = '2026-11-24T10:00:00Z'")
    expected = [str(night) for night in sorted(nights)]
    found, path = [], "?limit=1"
    while path:
        page = await body(client, path.removeprefix("/v1/nights"))
        found += [night["night_id"] for night in page["nights"]]
        path = page["next"] or ""
    assert found == expected
    assert [night["night_id"] for night in (await body(client, "?channel=beta"))["nights"]] == [str(nights[1])]
    assert (await body(client, "?state=running"))["nights"] == []


async def test_who_waits_is_told_of_a_change_and_of_the_end(client: Client, database: Connection) -> None:
    night = await night_of(database, "gc_ms")
    first = await get(client, f"/{night}")
    tag = first.headers["ETag"]
    assert first.headers["Retry-After"] == "5"
    unchanged = await get(client, f"/{night}", 304, If_None_Match=tag)
    assert unchanged.headers["ETag"] == tag
    changed = asyncio.create_task(get(client, f"/{night}", Prefer="wait=30", If_None_Match=tag))
    ended = asyncio.create_task(get(client, f"/{night}", Prefer="wait=30"))

    async def both() -> bool:
        return service(client).night_watch.waiting == 2

    await eventually(both, "two wait")
    await plan(database, ["gc_ms"])
    answer = await changed
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.headers["ETag"] != tag
    [job] = await claim_jobs(database)
    await complete_job(database, job)
    await database.fetchval("SELECT end_nights()")
    answer = await ended
    assert (await answer.json())["state"] == "over"
    assert "Retry-After" not in answer.headers


async def test_a_night_is_cancelled_once(client: Client, database: Connection) -> None:
    night = await night_of(database, "gc_ms", "slow_ms")
    await plan(database, ["gc_ms", "slow_ms"])
    response = await client.delete(f"/v1/nights/{night}")
    cancelled = await response.json()
    assert response.status == 202
    assert (cancelled["state"], cancelled["error"]["code"], cancelled["totals"]["cancelled"]) == (
        "over",
        "cancelled",
        2,
    )
    assert [job["state"] for job in cancelled["jobs"]] == ["cancelled"]
    assert "409" in str((await problem(await client.delete(f"/v1/nights/{night}"), 409))["status"])
    told = await database.fetchrow(
        "SELECT source, data FROM event_log WHERE type = 'night_ended' ORDER BY position DESC LIMIT 1"
    )
    assert told is not None
    assert (told["source"], told["data"]["cancelled"], told["data"]["error"]["code"]) == ("app", 2, "cancelled")


@pytest.mark.parametrize("path", ["", "/probes"])
async def test_what_does_not_exist_is_said(client: Client, path: str) -> None:
    for night in (uuid4(), "one"):
        assert (await problem(await client.get(f"/v1/nights/{night}{path}"), 404))["title"] == "No such night"
    assert (await problem(await client.delete(f"/v1/nights/{uuid4()}"), 404))["title"] == "No such night"
