"""Hot probes that are not fresh are queued behind builds that somebody waits for, until somebody waits for them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.building import ask, asked, bring_to, problem
from tests.support.servers import Client, Connection, JsonObject, drained_projections, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_prefetching_queues_what_is_hot_and_not_fresh(client: Client, database: Connection) -> None:
    now = datetime.now(UTC).isoformat()
    hot = ["gc_ms"] * 400 + ["slow_ms"] * 300 + ["a_flag"] * 200 + ["gc_slice"]
    people = [f"person {number}" for number in range(len(hot))]
    views = [event("probe_viewed", probe=probe, occurred_at=now) for probe in hot]
    await post(client, *(view | {"visitor": person} for view, person in zip(views, people, strict=True)))
    await drained_projections(database)
    await bring_to(database, await asked(client, "gc_ms"), "succeeded")
    body = {"product": "fog", "channel": "nightly", "budget": 3}
    expected = {"created": 1, "pending": 0, "fresh": 1, "unknown": 0, "unbuildable": 1, "excluded": 0}
    response = await client.post("/v1/builds/prefetch", json=body)
    assert (response.status, await response.json()) == (202, {"asked": 3, "outcomes": expected})
    assert response.headers["Location"] == "/v1/builds?product=fog&channel=nightly"
    again = await client.post("/v1/builds/prefetch", json=body)
    assert (await again.json())["outcomes"] == expected | {"created": 0, "pending": 1}
    rows = await database.fetch(
        "SELECT b.probe, prefetched, source FROM builds b JOIN event_log ON log_position = position ORDER BY b.probe"
    )
    assert [tuple(row) for row in rows] == [("gc_ms", False, "a worker"), ("slow_ms", True, "prefetch")]


async def test_who_asks_for_what_was_prefetched_moves_it_forward(client: Client, database: Connection) -> None:
    await database.execute("SELECT request_build('fog', 'nightly', 'slow_ms', 'test', true)")
    await database.execute("UPDATE builds SET not_before = not_before - interval '6 hours'")
    response = await ask(client, "slow_ms")
    assert (response.status, response.headers["Retry-After"]) == (202, "2")
    assert await database.fetchval("SELECT NOT prefetched FROM builds")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"budget": 0}, "/budget"), ({"budget": 1_001}, "/budget"), ({"channel": "N"}, "/channel"), ({"x": 1}, "/x")],
)
async def test_a_wrong_prefetch_is_named(client: Client, change: JsonObject, pointer: str) -> None:
    body = {"product": "fog", "channel": "nightly", "budget": 3} | change
    found = await problem(await client.post("/v1/builds/prefetch", json=body), 422)
    assert found["errors"][0]["pointer"] == pointer
