"""The ETL says what it built, once, thousands at a time: the catalogue knows, nobody builds it again for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.support.building import ask, asked, claim, look, service
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post, registered

Drained = Callable[[], Awaitable[None]]
NOW = datetime.now(UTC)


def report(*probes: str, **fields: object) -> JsonObject:
    built = {"product": "fog", "channel": "nightly", "built_at": (NOW + timedelta(hours=1)).isoformat()}
    return built | {"probes": list(probes)} | fields


async def built(client: Client, *probes: str, **fields: object) -> JsonObject:
    response = await client.post("/v1/hotlist/built", json=report(*probes, **fields))
    body: JsonObject = await response.json()
    assert response.status == 200, body
    return body | {"position": int(response.headers["Log-Position"])}


@pytest.fixture
async def known(client: Client, drained: Drained) -> Client:
    await post(client, *(registered(name) for name in ("gc_ms", "slow_ms", "gc_slice")))
    await drained()
    return client


async def is_watched(client: Client) -> bool:
    return service(client).watch.waiting == 1


async def test_thousands_are_recorded_once_in_one_request(
    client: Client, database: Connection, drained: Drained
) -> None:
    names = [f"probe_{number}" for number in range(2_500)]
    first = await built(client, *names, names[0])
    assert (first["recorded"], first["duplicate"], first["position"]) == (2_500, 0, 2_500)
    again = await built(client, *names)
    assert (again["recorded"], again["duplicate"], again["position"]) == (0, 2_500, 2_500)
    later = await built(client, names[0], built_at=(NOW + timedelta(hours=2)).isoformat())
    assert later["recorded"] == 1
    await drained()
    times = await database.fetch("SELECT built_at, count(*) FROM catalogue GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in times] == [(NOW + timedelta(hours=1), 2_499), (NOW + timedelta(hours=2), 1)]
    sources = await database.fetchval("SELECT array_agg(DISTINCT (type, source, channel)::text) FROM event_log")
    assert sources == ["(probe_built,app,nightly)"]


async def test_the_list_says_when_a_probe_was_built(client: Client, drained: Drained) -> None:
    await post(client, event("probe_viewed", occurred_at=NOW.isoformat()))
    await built(client, "gc_ms")
    await drained()
    [hot] = (await (await client.get("/v1/hotlist?product=fog")).json())["probes"]
    assert datetime.fromisoformat(hot["built_at"]) == NOW + timedelta(hours=1)


async def test_a_build_that_nobody_has_begun_ends(known: Client, database: Connection) -> None:
    running = await asked(known, "gc_ms")
    await claim(database, running)
    queued, other = await asked(known, "slow_ms"), await asked(known, "gc_slice")
    answer = await built(known, "gc_ms", "slow_ms")
    assert answer["builds_ended"] == 1
    ended = await (await look(known, queued)).json()
    assert (ended["state"], ended["error"]["code"]) == ("cancelled", "built_by_etl")
    assert [(await (await look(known, one)).json())["state"] for one in (running, other)] == ["running", "queued"]
    assert (await built(known, "gc_ms", "slow_ms"))["builds_ended"] == 0


async def test_a_build_of_another_channel_or_asked_for_later_goes_on(known: Client) -> None:
    queued = await asked(known, "gc_ms")
    assert (await built(known, "gc_ms", channel="beta"))["builds_ended"] == 0
    assert (await built(known, "gc_ms", built_at=(NOW - timedelta(hours=1)).isoformat()))["builds_ended"] == 0
    assert (await (await look(known, queued)).json())["state"] == "queued"


async def test_who_waits_for_it_is_woken(known: Client) -> None:
    await asked(known, "gc_ms")
    waiting = asyncio.create_task(ask(known, "gc_ms", Prefer="wait=30"))
    await eventually(partial(is_watched, known), "somebody waits")
    await built(known, "gc_ms")
    answer = await asyncio.wait_for(waiting, 20)
    body = await answer.json()
    assert (answer.status, body["state"], body["error"]["code"]) == (200, "cancelled", "built_by_etl")
    assert (await ask(known, "gc_ms")).status == 202  # who asks nevertheless misses something


async def test_what_the_etl_built_today_is_not_prefetched(known: Client, drained: Drained) -> None:
    names = ["gc_ms", "slow_ms"]
    await post(known, *(event("probe_viewed", probe=name, occurred_at=NOW.isoformat()) for name in names))
    await built(known, "gc_ms")
    await drained()
    body = {"product": "fog", "channel": "nightly", "budget": 2}
    answer = await (await known.post("/v1/builds/prefetch", json=body)).json()
    assert (answer["outcomes"]["fresh"], answer["outcomes"]["created"]) == (1, 1)


async def test_what_the_catalogue_lacks_is_left_out_and_told(known: Client, database: Connection) -> None:
    answer = await built(known, "gc_ms", "gc_mss", "slow_ms", "gc_mss")
    assert (answer["recorded"], answer["unknown"]) == (2, ["gc_mss"])
    recorded = await database.fetch("SELECT probe FROM event_log WHERE type = 'probe_built' ORDER BY probe")
    assert [row["probe"] for row in recorded] == ["gc_ms", "slow_ms"]


async def test_what_is_listed_may_be_reported(known: Client, database: Connection) -> None:
    """A pinned probe is listed, in the catalogue or not."""
    await database.execute("SELECT set_hotlist_rule('fog', 'own_ms', 'pinned', '', 'test')")
    assert (await built(known, "own_ms"))["recorded"] == 1


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"product": "foq"}, "/product", "nothing is known of product foq; did you mean fog?"),
        ({"channel": "nightyl"}, "/channel", "nothing is known of channel nightyl of fog; did you mean nightly?"),
        ({"probes": ["gc_mss", "a"]}, "/probes", "has none of these, such as gc_mss; did you mean gc_ms?"),
    ],
)
async def test_names_that_nothing_is_known_of_are_refused(
    known: Client, database: Connection, drained: Drained, change: JsonObject, pointer: str, said: str
) -> None:
    await post(known, event("probe_viewed", probe="gc_ms", channel="nightly"))
    await drained()
    response = await known.post("/v1/hotlist/built", json=report("gc_ms") | change)
    [error] = (await response.json())["errors"]
    assert (response.status, error["pointer"]) == (422, pointer)
    assert said in error["detail"]
    assert await database.fetchval("SELECT count(*) FROM event_log WHERE type = 'probe_built'") == 0
    assert [one["product"] for one in (await (await known.get("/v1/products")).json())["products"]] == ["fog"]


async def test_a_channel_of_glam_is_reported_before_anybody_views_it(known: Client, drained: Drained) -> None:
    await post(known, event("probe_viewed", probe="gc_ms", channel="nightly"))
    await drained()
    assert (await built(known, "gc_ms", channel="release"))["recorded"] == 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"probes": []}, "/probes"),
        ({"probes": ["a b"]}, "/probes/0"),
        ({"probes": ["a"] * 10_001}, "/probes"),
        ({"built_at": "2026-11-20"}, "/built_at"),
        ({"built_at": (NOW + timedelta(days=3)).isoformat()}, "/built_at"),
        ({"channel": "N"}, "/channel"),
        ({"rows": 1}, "/rows"),
    ],
)
async def test_a_wrong_report_is_named(client: Client, change: JsonObject, pointer: str) -> None:
    response = await client.post("/v1/hotlist/built", json=report("gc_ms") | change)
    [error] = (await response.json())["errors"]
    assert (response.status, error["pointer"]) == (422, pointer)
    assert "sent_at" not in error["detail"]  # which is of events
