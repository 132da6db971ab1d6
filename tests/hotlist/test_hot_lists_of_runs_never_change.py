"""Lists that runs were given stay the same, whatever is viewed later and whoever asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.support.hot_traffic import DAYS, FIRST, as_event
from tests.support.servers import Client, Connection, JsonObject, event, post
from usage_service.shared.postgres import connect

RUN = "scheduled__2026-08-21T03:00:00+00:00"
WANTED = {"run": RUN, "product": "fog", "budget": 5, "until": f"{FIRST + timedelta(days=DAYS)}T00:00:00Z"}
PLACE = "/v1/hotlist/scheduled__2026-08-21T03%3A00%3A00%2B00%3A00"


@pytest.fixture
async def filled(client: Client, drained: Callable[[], Awaitable[None]]) -> Client:
    await post(client, *(as_event(request) for request in made(11, 300)))
    await drained()
    return client


async def test_a_run_keeps_its_list(filled: Client, drained: Callable[[], Awaitable[None]]) -> None:
    first = await filled.post("/v1/hotlist", json=WANTED)
    body = await first.read()
    assert (first.status, first.headers["Location"]) == (201, PLACE)
    last_day = f"{FIRST + timedelta(days=DAYS - 1)}T20:00:00Z"
    await post(
        filled, *(event("probe_viewed", probe="late_ms", visitor=f"v{n}", occurred_at=last_day) for n in range(99))
    )
    await drained()
    moved = await (await filled.get("/v1/hotlist", params={"product": "fog", "until": str(WANTED["until"])})).json()
    assert "late_ms" in [one["probe"] for one in moved["probes"]]
    again = await filled.post("/v1/hotlist", json=WANTED)
    kept = await filled.get(first.headers["Location"])
    assert (again.status, kept.status) == (200, 200)
    assert await again.read() == await kept.read() == body
    assert (await filled.get(PLACE, headers={"If-None-Match": kept.headers["ETag"]})).status == 304
    lines = await (await filled.get(f"{PLACE}?format=lines")).text()
    assert lines.split() == [one["probe"] for one in (await kept.json())["probes"]]


async def test_of_many_who_ask_at_once_all_get_the_same(filled: Client) -> None:
    answers = await asyncio.gather(*(filled.post("/v1/hotlist", json=WANTED) for _ in range(6)))
    assert sorted(one.status for one in answers) == [200] * 5 + [201]
    assert len({await one.read() for one in answers}) == 1


@pytest.mark.parametrize("change", [{"budget": 6}, {"product": "fenix"}, {"coverage": 0.5}, {"budget": None}])
async def test_another_list_under_the_same_name_is_refused(filled: Client, change: JsonObject) -> None:
    assert (await filled.post("/v1/hotlist", json=WANTED)).status == 201
    refused = await filled.post("/v1/hotlist", json=WANTED | change)
    assert (refused.status, (await refused.json())["errors"][0]["pointer"]) == (409, "/run")


async def test_no_list_is_kept_of_a_misspelt_product(filled: Client, database: Connection) -> None:
    refused = await filled.post("/v1/hotlist", json=WANTED | {"product": "foq"})
    [error] = (await refused.json())["errors"]
    assert (refused.status, error["pointer"]) == (422, "/product")
    assert "did you mean fog?" in error["detail"]
    assert await database.fetchval("SELECT count(*) FROM hotlist_runs") == 0


@pytest.mark.parametrize("run", ["", "a/b", " x", "x\n", "x" * 201, "backtest", "rules", "built", "é"])
async def test_a_name_that_is_none_is_named(client: Client, run: str) -> None:
    refused = await client.post("/v1/hotlist", json={"run": run})
    assert (refused.status, (await refused.json())["errors"][0]["pointer"]) == (422, "/run")


async def test_a_run_that_was_given_none_is_404(client: Client) -> None:
    assert (await client.get("/v1/hotlist/nobody")).status == 404


@pytest.mark.parametrize(
    "change", ["UPDATE hotlist_runs SET list = '{}'", "DELETE FROM hotlist_runs", "DELETE FROM hotlist_rules"]
)
async def test_no_role_may_change_one(filled: Client, database: Connection, database_url: str, change: str) -> None:
    await filled.post("/v1/hotlist", json=WANTED)
    for role in ("usage_server", "usage_builder", "usage_reader"):
        connection = await connect(database_url, role=role, application="tests")
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
        finally:
            await connection.close()
    assert await database.fetchval("SELECT count(*) FROM hotlist_runs") == 1
