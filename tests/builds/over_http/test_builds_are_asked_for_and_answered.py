"""Asynchronous request-reply over HTTP: every status and header of it, at every stage of a build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.support.building import (
    PENDING,
    TwoServers,
    ask,
    asked,
    bring_to,
    claim,
    fail,
    history,
    look,
    problem,
    progress,
    served,
)
from tests.support.servers import Client, Connection, connected

RESULT = "/v1/probes/fog/gc_ms?channel=nightly"
STATES = {"progressed": "running", "waiting_again": "queued"}
pytestmark = pytest.mark.asyncio(loop_scope="module")


STOP_CLOCK, LET_IT_GO_ON = (
    f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {change}', current_database()); END $$"
    for change in ("SET usage.now = ''2026-11-24T10:00:00Z''", "RESET usage.now")
)


async def took(database: Connection, seconds: float, metric_type: str = "timing_distribution", builds: int = 3) -> None:
    """Add builds that are over, as if they had taken so long."""
    await database.execute(
        """INSERT INTO builds (product, channel, probe, metric_type, pings, state, not_before, requested_at,
                               finished_at, log_position)
           SELECT 'fog', 'nightly', 'old', $2, '{}', 'no_data', current_instant(), current_instant() - $1::interval,
                  current_instant(), 0
           FROM generate_series(1, $3)""",
        timedelta(seconds=seconds),
        metric_type,
        builds,
    )


@pytest_asyncio.fixture(loop_scope="module")
async def stopped_clock(two_servers: TwoServers) -> AsyncIterator[tuple[Client, Connection]]:
    """Return a server and a session for which no time passes, so that seconds that are left stay the same."""
    await two_servers.database.execute(STOP_CLOCK)
    try:
        async with served(two_servers.url) as client, connected(two_servers.url) as database:
            yield client, database
    finally:
        await two_servers.database.execute(LET_IT_GO_ON)


async def test_a_new_build_is_202_and_tells_where_and_when_to_look(client: Client, database: Connection) -> None:
    response = await ask(client)
    body = await response.json()
    place = f"/v1/builds/{body['build_id']}"
    assert response.status == 202
    assert (response.headers["Location"], response.headers["Content-Location"]) == (place, place)
    assert response.headers["Retry-After"] in {"1", "2"}
    assert (body["state"], body["attempt"], body["probe"]) == ("queued", 0, "gc_ms")
    assert "Preference-Applied" not in response.headers
    seen = await look(client, UUID(body["build_id"]))
    assert (seen.status, await seen.json()) == (200, body)
    for header in ("ETag", "Log-Position"):
        assert seen.headers[header] == response.headers[header]
    [(position, kind)] = await history(database, UUID(body["build_id"]))
    assert (response.headers["Log-Position"], kind) == (str(position), "build_requested")


@pytest.mark.parametrize("stage", PENDING)
async def test_while_it_is_pending_the_same_build_is_answered(client: Client, database: Connection, stage: str) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    for response in (await ask(client), await look(client, build)):
        body = await response.json()
        assert (body["build_id"], body["state"]) == (str(build), STATES.get(stage, stage))
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert response.headers["ETag"]
        assert response.headers["Cache-Control"] == "no-cache"
    assert await database.fetchval("SELECT count(*) FROM builds") == 1


@pytest.mark.parametrize("stage", ["succeeded", "no_data"])
async def test_a_result_is_303_for_who_looks_and_who_asks_again(
    client: Client, database: Connection, stage: str
) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    for response in (await ask(client), await look(client, build), await look(client, build, If_None_Match="*")):
        assert (response.status, response.headers["Location"]) == (303, RESULT)
        assert (await response.json())["state"] == stage
        assert "Retry-After" not in response.headers
    rows = await (await client.get(f"/v1/builds/{build}")).json()
    assert (rows["built_by"], rows["state"], len(rows["rows"])) == (str(build), stage, int(stage == "succeeded"))


@pytest.mark.parametrize("stage", ["failed", "cancelled"])
async def test_what_has_no_result_is_200_and_is_asked_for_anew(
    client: Client, database: Connection, stage: str
) -> None:
    build = await asked(client)
    await bring_to(database, build, stage)
    response = await look(client, build)
    body = await response.json()
    assert (response.status, body["state"]) == (200, stage)
    assert body["error"] == ({"code": "busy", "message": "no slots"} if stage == "failed" else None)
    assert "Retry-After" not in response.headers
    assert (await look(client, build, If_None_Match=response.headers["ETag"])).status == 304
    assert await asked(client) != build


async def test_304_as_long_as_nothing_happens_to_it(client: Client, database: Connection) -> None:
    build = await asked(client)
    tags: list[str] = []
    for step in ("requested", "claimed", "progressed", "failed"):
        if step == "claimed":
            await claim(database, build)
        elif step == "progressed":
            await progress(database, build, 1)
        elif step == "failed":
            await fail(database, build, 1, timedelta(seconds=9))
        response = await look(client, build, If_None_Match=", ".join(tags) or '"other"')
        assert response.status == 200
        tags.append(response.headers["ETag"])
        same = await look(client, build, If_None_Match=f'"other", W/{tags[-1]}')
        assert (same.status, await same.read()) == (304, b"")
        for header in ("ETag", "Log-Position", "Cache-Control"):
            assert same.headers[header] == response.headers[header]
        assert 1 <= int(same.headers["Retry-After"]) <= 60
    assert len(set(tags)) == 4


async def test_two_servers_give_the_same_tag(two_servers: TwoServers) -> None:
    build = await asked(two_servers.client)
    tag = (await look(two_servers.client, build)).headers["ETag"]
    assert (await look(two_servers.other, build, If_None_Match=tag)).status == 304


async def test_behind_a_token_caches_are_told_so(two_servers: TwoServers) -> None:
    async with served(two_servers.url, token="opens") as client:
        response = await ask(client, Authorization="Bearer opens")
        assert (response.status, response.headers["Vary"]) == (202, "Authorization")


async def test_retry_after_is_what_such_builds_took(stopped_clock: tuple[Client, Connection]) -> None:
    client, database = stopped_clock
    await took(database, 33, "event", builds=9)
    assert (await ask(client)).headers["Retry-After"] == "33"
    await took(database, 50)
    await database.execute("UPDATE builds SET prefetched = true WHERE metric_type <> 'event'")  # they could wait
    await took(database, 12.4)
    response = await ask(client)
    assert response.headers["Retry-After"] == "13"
    await database.execute("UPDATE builds SET not_before = not_before - interval '5 s' WHERE state = 'queued'")
    assert (await ask(client)).headers["Retry-After"] == "8"


async def test_retry_after_is_a_minute_at_most_and_grows_when_nothing_happens(
    stopped_clock: tuple[Client, Connection],
) -> None:
    client, database = stopped_clock
    await took(database, 600)
    build = await asked(client)
    assert (await look(client, build)).headers["Retry-After"] == "60"
    await database.execute("UPDATE builds SET finished_at = requested_at + interval '1 s' WHERE state = 'no_data'")
    assert (await look(client, build)).headers["Retry-After"] == "1"
    await database.execute("UPDATE builds SET not_before = not_before - interval '199 s' WHERE state = 'queued'")
    assert (await look(client, build)).headers["Retry-After"] == "20"


async def test_retry_after_counts_the_time_until_the_next_attempt(stopped_clock: tuple[Client, Connection]) -> None:
    client, database = stopped_clock
    await took(database, 5)
    build = await asked(client)
    await bring_to(database, build, "waiting_again")
    assert (await look(client, build)).headers["Retry-After"] == "25"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/retry")])
async def test_a_build_that_is_not_there_is_404(client: Client, method: str, path: str) -> None:
    for name in (str(uuid4()), "17"):
        await problem(await client.request(method, f"/v1/builds/{name}{path}"), 404)


async def test_an_unknown_probe_is_404_with_the_nearest_names(client: Client) -> None:
    body = await problem(await ask(client, "gc_msec"), 404)
    assert body["near_names"][0] == "gc_ms"
    assert "did you mean gc_ms?" in body["detail"]
    assert body["errors"][0]["pointer"] == "/probe"


@pytest.mark.parametrize(
    ("probe", "why"), [("a_flag", "is of type event"), ("use_counter_x", "is hidden by the pattern use_counter*")]
)
async def test_what_is_never_built_is_422(client: Client, probe: str, why: str) -> None:
    body = await problem(await ask(client, probe), 422)
    assert why in body["detail"]
    assert body["errors"][0]["pointer"] == "/probe"
