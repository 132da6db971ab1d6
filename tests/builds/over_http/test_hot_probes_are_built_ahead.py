"""A night of the hot list, of a list that was kept, or of probes that are named: asked for once a channel."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.support.building import ask, asked, bring_to, complete, problem
from tests.support.night_calls import claim_jobs, complete_job, plan
from tests.support.servers import Client, Connection, JsonObject, drained_projections, event, post
from usage_service.hotlist.budgets import NothingKnownError
from usage_service.shared.settings import MOST_BYTES
from usage_service.web.api import prefetching

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHANNEL = {"product": "fog", "channel": "nightly"}
NONE = dict.fromkeys(("created", "pending", "fresh", "unknown", "unbuildable", "excluded", "left"), 0)
PROBES = "SELECT probe, place, requests, outcome FROM night_probes ORDER BY place"


@pytest_asyncio.fixture(loop_scope="module")
async def hot(client: Client, database: Connection) -> None:
    """Have four probes viewed, three of them by many."""
    views = ["gc_ms"] * 400 + ["slow_ms"] * 300 + ["a_flag"] * 200 + ["gc_slice"]
    if await database.fetchval("SELECT count(*) FROM event_log WHERE type = 'probe_viewed'") < len(views):
        now = datetime.now(UTC).isoformat()
        events = [event("probe_viewed", probe=probe, occurred_at=now) for probe in views]
        await post(client, *(one | {"visitor": f"person {number}"} for number, one in enumerate(events)))
        await drained_projections(database)


async def prefetch(client: Client, **asking: object) -> JsonObject:
    response = await client.post("/v1/builds/prefetch", json=CHANNEL | asking)
    answer: JsonObject = await response.json()
    assert response.status == 202, answer
    assert response.headers["Location"] == f"/v1/nights/{answer['night_id']}"
    return answer


@pytest.mark.usefixtures("hot")
async def test_a_night_is_asked_for_once(client: Client, database: Connection) -> None:
    await bring_to(database, await asked(client, "gc_ms"), "succeeded")
    first = await prefetch(client, budget=3)
    expected = NONE | {"created": 1, "fresh": 1, "unbuildable": 1}
    assert (first["is_new"], first["asked"], first["outcomes"]) == (True, 3, expected)
    again = await prefetch(client, budget=2)
    assert again == first | {"is_new": False}
    rows = [tuple(row) for row in await database.fetch(PROBES)]
    assert [(probe, outcome) for probe, _place, _requests, outcome in rows] == [
        ("gc_ms", "fresh"), ("slow_ms", "listed"), ("a_flag", "unbuildable"),
    ]  # fmt: skip
    requests = [row[2] for row in rows]
    assert requests == sorted(requests, reverse=True)
    assert min(requests) > 0
    assert await database.fetchval("SELECT count(*) FROM builds") == 1  # a builder that plans the night asks for them
    assert await database.fetchval("SELECT source FROM nights") == "app"
    await plan(database, ["slow_ms"])
    [job] = await claim_jobs(database)
    await complete_job(database, job)
    assert await database.fetchval("SELECT end_nights()") == 1
    later = await prefetch(client, budget=3)
    assert later["is_new"]
    assert later["outcomes"] == NONE | {"fresh": 2, "unbuildable": 1}


@pytest.mark.usefixtures("hot")
async def test_a_budget_of_bytes_or_money_is_the_planners_to_keep(client: Client, database: Connection) -> None:
    for budget, most_bytes, expected in (
        ("500GB", None, 500 * 10**9),
        ("500gb", None, 500 * 10**9),
        ("2TiB", 10**9, 10**9),
        ("6.25USD", None, 2**40),
        ("8388608TiB", None, MOST_BYTES),
        ("999999999TiB", None, MOST_BYTES),
        ("999999999USD", MOST_BYTES, MOST_BYTES),
        (2, 7, 7),
        (None, None, None),
    ):
        answer = await prefetch(client, budget=budget, most_bytes=most_bytes)
        assert answer["asked"] == (2 if budget == 2 else 4)
        row = await database.fetchrow("SELECT most_bytes, cancel_night(night_id) FROM nights WHERE state <> 'over'")
        assert row is not None
        assert (row[0], row[1]) == (expected, "planning")


async def test_auto_needs_to_know_what_building_costs(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> None:
        raise NothingKnownError("no build has told yet how much it reads")

    async def nothing_known(*_asked: object) -> object:
        return make

    monkeypatch.setattr(prefetching, "read_for_list", nothing_known)
    refused = await problem(await client.post("/v1/builds/prefetch", json=CHANNEL | {"budget": "auto"}), 422)
    assert refused["errors"][0]["pointer"] == "/budget"
    assert "no build has told yet" in refused["detail"]
    assert await database.fetchval("SELECT count(*) FROM nights") == 0


@pytest.mark.usefixtures("hot")
async def test_a_kept_list_is_a_night(client: Client, database: Connection) -> None:
    made = await client.post("/v1/hotlist", json={"run": "monday", "product": "fog", "budget": 2})
    assert made.status in (200, 201)
    assert (await prefetch(client, list="monday"))["outcomes"] == NONE | {"created": 2}
    assert [row["probe"] for row in await database.fetch(PROBES)] == ["gc_ms", "slow_ms"]
    for body, words in (
        ({"list": "tuesday"}, "no list was made for tuesday"),
        ({"list": "monday", "product": "firefox"}, "is of fog, not of firefox"),
    ):
        found = await problem(await client.post("/v1/builds/prefetch", json=CHANNEL | body), 422)
        assert found["errors"][0]["pointer"] == "/list"
        assert words in found["errors"][0]["detail"]


@pytest.mark.usefixtures("hot")
@pytest.mark.parametrize(("path", "body"), [("/v1/builds/prefetch", {"budget": 2}), ("/v1/builds", {"probe": "gc_ms"})])
async def test_nothing_is_built_for_a_misspelt_channel(
    client: Client, database: Connection, path: str, body: JsonObject
) -> None:
    await post(client, event("probe_viewed", probe="gc_ms", channel="nightly"))
    await drained_projections(database)
    misspelt = CHANNEL | {"channel": "nightyl"}
    found = await problem(await client.post(path, json=misspelt | body), 422)
    [error] = found["errors"]
    assert error["pointer"] == "/channel"
    assert error["detail"] == "nothing is known of channel nightyl of fog; did you mean nightly?"
    assert await database.fetchval("SELECT (SELECT count(*) FROM nights) + (SELECT count(*) FROM builds)") == 0
    assert (await client.post(path, json=misspelt | body | {"channel": "beta"})).status == 202


@pytest.mark.usefixtures("hot")
async def test_no_night_is_of_a_misspelt_product(client: Client, database: Connection) -> None:
    found = await problem(await client.post("/v1/builds/prefetch", json=CHANNEL | {"product": "foq"}), 422)
    assert found["errors"][0]["detail"] == "nothing is known of product foq; did you mean fog?"
    assert await database.fetchval("SELECT count(*) FROM nights") == 0


async def test_probes_may_be_named(client: Client, database: Connection) -> None:
    answer = await prefetch(client, probes=["slow_ms", "no_such_ms", "gc_ms", "slow_ms"])
    assert (answer["asked"], answer["outcomes"]) == (3, NONE | {"created": 2, "unknown": 1})
    assert [tuple(row) for row in await database.fetch(PROBES)] == [
        ("slow_ms", 1, None, "listed"), ("no_such_ms", 2, None, "unknown"), ("gc_ms", 3, None, "listed"),
    ]  # fmt: skip


async def test_who_asks_before_the_job_has_begun_comes_first(client: Client, database: Connection) -> None:
    await prefetch(client, probes=["slow_ms", "gc_ms"])
    await plan(database, ["slow_ms", "gc_ms"])
    response = await ask(client, "slow_ms")
    build = await response.json()
    assert (response.status, build["state"], build["shared_job"]["state"]) == (202, "queued", "queued")
    alone = await database.fetch("SELECT * FROM claim_build('a worker', '1 minute', 5)")
    assert [row["probe"] for row in alone] == ["slow_ms"]
    [job] = await claim_jobs(database)
    assert len(job["builds"]) == 1
    await complete(database, alone[0]["build_id"], 1)
    await complete_job(database, job)
    assert await database.fetchval("SELECT bool_and(state = 'succeeded' AND attempt = 1) FROM builds")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"budget": 0}, "/budget"),
        ({"budget": 1_001}, "/budget"),
        ({"budget": "10000"}, "/budget"),
        ({"budget": "much"}, "/budget"),
        ({"channel": "N"}, "/channel"),
        ({"x": 1}, "/x"),
        ({"probes": []}, "/probes"),
        ({"probes": ["a"] * 1_001}, "/probes"),
        ({"probes": [""]}, "/probes/0"),
        ({"probes": ["a"], "budget": 3}, "/budget"),
        ({"list": "a", "budget": 3}, "/budget"),
        ({"probes": ["a"], "list": "a"}, "/list"),
        ({"list": "no name"}, "/list"),
        ({"most_bytes": -1}, "/most_bytes"),
    ],
)
async def test_a_wrong_prefetch_is_named(client: Client, change: JsonObject, pointer: str) -> None:
    found = await problem(await client.post("/v1/builds/prefetch", json=CHANNEL | change), 422)
    assert found["errors"][0]["pointer"] == pointer
