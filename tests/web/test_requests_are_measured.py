"""The metrics tell how many requests there were by route and status, how long they took, and what became of events."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import SECRET, Start
from tests.support.building import service
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, event, eventually, post
from usage_service.shared import listener
from usage_service.shared.settings import ServerSettings
from usage_service.web.api import health, metrics

Labels = dict[str, str]
NOWHERE = UUID(int=0)


async def sample(client: Client, name: str, **labels: str) -> float | None:
    """Return the sum of the samples that have these labels; None where there is none."""
    text = await (await client.get("/metrics")).text()
    found = [
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    return sum(found) if found else None


async def counted(client: Client, route: str, status: int, method: str = "GET") -> float | None:
    return await sample(client, "glam_http_requests_total", method=method, route=route, status=str(status))


async def test_requests_are_counted_by_template_and_status(client: Client) -> None:
    await post(client, event())
    for _ in range(3):
        await client.get(f"/v1/builds/{uuid4()}")
    await client.head("/v1/builds")
    await client.get("/v1/popularity?window=none")
    assert await counted(client, "/v1/events", 201, "POST") == 1
    assert await counted(client, "/v1/builds/{build_id}", 404) == 3
    assert await counted(client, "/v1/builds", 200, "HEAD") == 1
    assert await counted(client, "/v1/popularity", 422) == 1
    assert await sample(client, "glam_http_request_seconds_count", route="/v1/builds/{build_id}") == 3
    assert (await sample(client, "glam_http_request_seconds_sum", route="/v1/builds/{build_id}") or 0) > 0


async def test_whatever_is_sent_there_are_so_many_series(client: Client) -> None:
    for number in range(20):
        await client.get(f"/none/{number}")
        await client.request(f"METHOD{number}", "/v1/builds")
    assert (await client.request("PROPFIND", "/v1/builds")).status == 405
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"this is not HTTP\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert await counted(client, "none", 404) == 20
    assert await counted(client, "none", 405, "_OTHER") == 1
    assert await counted(client, "none", 400, "_OTHER") == 21
    labels = [
        one.labels
        for family in text_string_to_metric_families(await (await client.get("/metrics")).text())
        for one in family.samples
        if one.name == "glam_http_requests_total"
    ]
    assert {one["method"] for one in labels} == {"GET", "_OTHER"}
    assert {one["route"] for one in labels} == {"none", "/metrics"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/events", {}),
        ("/v1/popularity?at_least=0&wait=1", {}),
        (f"/v1/builds/{NOWHERE}", {"Prefer": "wait=0"}),
    ],
)
async def test_what_streams_or_waits_is_measured_apart(client: Client, path: str, headers: Labels) -> None:
    await (await client.get(path, headers=headers)).read()
    template = path.partition("?")[0] if "builds" not in path else "/v1/builds/{build_id}"
    assert await sample(client, "glam_http_held_request_seconds_count", route=template) == 1
    assert await sample(client, "glam_http_request_seconds_count", route=template) is None


async def test_a_request_that_crashes_is_counted(own_database: Connection, own_database_url: str, start: Start) -> None:
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    await own_database.execute("ALTER TABLE builds RENAME TO builds_elsewhere")
    assert (await client.get("/v1/builds")).status == 500
    await own_database.execute("ALTER TABLE builds_elsewhere RENAME TO builds")  # which metrics count, too
    assert await counted(client, "/v1/builds", 500) == 1


async def test_events_are_counted_by_what_became_of_them(client: Client) -> None:
    first = event()
    await post(client, first, event())
    await post(client, first)
    other = first | {"data": {"page": "/other"}}
    answer = await client.post("/v1/events", json=[other, {}, event(product="?"), event("x")])
    assert answer.status == 422
    await client.post("/v1/events", json=[event(colour="red"), event(data={"page": "/", "colour": 1}), 7])
    outcomes = {"recorded": 2, "duplicate": 1, "conflict": 1, "refused": 0, "unavailable": 0, "queue_full": 0}
    for outcome, number in outcomes.items():
        assert await sample(client, "glam_events_total", outcome=outcome) == number, outcome
    reasons = {"type": 2, "product": 1, "unknown_field": 1, "data": 1, "event": 1, "visitor": 0}
    for reason, number in reasons.items():
        assert await sample(client, "glam_events_refused_total", reason=reason) == number, reason


async def test_events_that_are_turned_away_are_counted(
    own_database: Connection, own_database_url: str, start: Start
) -> None:
    settings = ServerSettings(database_url=own_database_url, visitor_secret=SECRET, queue_events=3)
    client = await start(settings)
    await own_database.execute("ALTER SEQUENCE event_position RENAME TO elsewhere")
    assert (await client.post("/v1/events", json=[event(), event()])).status == 503
    assert (await client.post("/v1/events", json=[event() for _ in range(4)])).status == 429
    assert await sample(client, "glam_events_total", outcome="unavailable") == 2
    assert await sample(client, "glam_events_total", outcome="queue_full") == 4
    assert await sample(client, "glam_ingest_queue_limit_events") == 3


async def test_connections_in_use_are_counted(
    client: Client, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATABASE_SECONDS", 0.2)
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.2)
    pool = service(client).pool
    assert await sample(client, "glam_pool_used_connections", pool="requests") == 0
    assert await sample(client, "glam_pool_limit_connections", pool="requests") == settings.pool_size
    held = [await pool.acquire() for _ in range(settings.pool_size)]
    body = await (await client.get("/__heartbeat__")).json()
    assert body["checks"]["database"].endswith(f"all {settings.pool_size} connections are in use")
    assert body["checks"]["recording"] == "ok"
    assert await sample(client, "glam_pool_used_connections", pool="requests") == settings.pool_size
    for connection in held:
        await pool.release(connection)


async def test_a_listener_that_is_away_is_known(
    start: Start, settings: ServerSettings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(listener, "PING_SECONDS", 1.0)
    async with proxied(database_url) as (proxy, url):
        client = await start(msgspec.structs.replace(settings, listen_database_url=url))

        async def is_up(value: int) -> bool:
            return await sample(client, "glam_listener_up") == value

        await eventually(lambda: is_up(1), "the listener is up")
        proxy.cut()
        await eventually(lambda: is_up(0), "the listener is known to be away")


async def test_builders_are_known_by_their_signs_of_life(client: Client, database: Connection) -> None:
    assert await sample(client, "glam_builders") == 0
    assert await sample(client, "glam_builder_last_seen_seconds") is None
    for name in ("one", "two", "one"):
        await database.execute("SELECT note_builder($1)", name)
    assert await sample(client, "glam_builders") == 2
    assert 0 <= (await sample(client, "glam_builder_last_seen_seconds") or 0) < 30
    await database.execute("UPDATE builders SET seen_at = seen_at - interval '90 seconds'")
    assert await sample(client, "glam_builders") == 0
    assert (await sample(client, "glam_builder_last_seen_seconds") or 0) >= 90
    await database.execute("UPDATE builders SET seen_at = seen_at - interval '1 day'")
    assert await sample(client, "glam_builder_last_seen_seconds") is None
    await database.execute("SELECT note_builder('three')")
    assert await database.fetchval("SELECT array_agg(name) FROM builders") == ["three"]
