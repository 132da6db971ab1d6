"""Clients that are slow, idle, do not read or do not send HTTP cost the others nothing; no answer shows internals."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import resource
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from urllib.parse import quote

import msgspec
import psutil
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.bad_input import FUZZING, INSIDE, JSON, STATEMENTS, filled, named, spoken
from tests.support.building import served
from tests.support.servers import Client, connected, event, eventually, post, rounds
from usage_service.web import connections, streaming
from usage_service.web.api import (
    glam_usage,
    hotlist,
    hotlist_backtest,
    hotlist_experiment,
    hotlist_rules,
    journeys,
    log,
    popularity,
    probes,
    releases,
    session_summaries,
    sessions,
    timeseries,
    unused,
)
from usage_service.web.api.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

FUZZ = settings(FUZZING, max_examples=rounds(15))


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client:
        yield client


async def is_well(client: Client) -> None:
    """Check that another client is served."""
    async with asyncio.timeout(20):
        assert (await client.get("/__lbheartbeat__")).status == 200
        assert (await client.get("/v1/popularity")).status == 200


@pytest.mark.parametrize(
    "begun",
    [b"GET /", b"GET /__lbheartbeat__ HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 500],
)
async def test_headers_that_do_not_end_are_cut_off(
    client: Client, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    async with spoken(client, begun) as (reader, writer), asyncio.timeout(20):

        async def drip() -> None:
            while not writer.is_closing():
                writer.write(b"X")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        await is_well(client)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        dripping.cancel()


async def test_a_second_request_has_its_own_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 2.0)
    request = b"GET /__lbheartbeat__ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with spoken(client) as (reader, writer), asyncio.timeout(20):
        for _ in range(4):
            writer.write(request[:20])
            await asyncio.sleep(0.55)  # slow, as a client may be: together more than one has
            writer.write(request[20:])
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b'"ok"}')
        await asyncio.sleep(2.2)  # idle between requests is another matter
        writer.write(request)
        assert b" 200 " in await reader.readline()


async def test_a_body_is_not_taken_for_headers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    body = json.dumps(event()).encode()
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
    async with spoken(client, head.encode()) as (reader, writer), asyncio.timeout(20):
        for at in range(0, len(body), 40):
            writer.write(body[at : at + 40])
            await asyncio.sleep(0.15)  # slow, as a client may be
        assert b" 201 " in await reader.readline()


async def test_500_idle_connections_cost_the_others_nothing(client: Client) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(500, (soft - 200) // 2)  # both ends are in this process
    async with AsyncExitStack() as stack:
        for count in range(number):
            await stack.enter_async_context(spoken(client, b"GET /v1/events" if count % 2 else b""))
        await is_well(client)
        assert (await client.post("/v1/events", json=event())).status == 201


async def test_beyond_the_bound_of_connections_new_ones_are_closed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await is_well(client)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    with capture_logs() as logged:
        async with AsyncExitStack() as stack, asyncio.timeout(20):
            opened = [await stack.enter_async_context(spoken(client)) for _ in range(8)]
            reader, _ = opened[-1]
            assert await reader.read() == b""
            assert (await client.get("/__lbheartbeat__")).status == 200  # on the connection that it has
    assert {line["event"] for line in logged} == {"too_many_connections"}


async def test_who_does_not_read_its_stream_is_left_and_others_are_served(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WRITE_SECONDS", 0.5)
    wide = [event("x_wide", data={"text": "w" * 12_000}) for _ in range(60)]
    for _ in range(10):
        await post(client, *[item | {"event_id": event()["event_id"]} for item in wide])
    request = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n"
    arrow = "Accept: application/vnd.apache.arrow.stream\r\n"
    with capture_logs() as logged:
        async with AsyncExitStack() as stack:
            for headers in ("", arrow) * 8:
                await stack.enter_async_context(spoken(client, f"{request}{headers}\r\n".encode()))
            await is_well(client)
            assert (await client.post("/v1/events", json=event())).status == 201

            async def all_left() -> bool:
                return [line["event"] for line in logged].count("reader_gone") == 16

            await eventually(all_left, "all that do not read are left", seconds=20)
    assert (await client.get("/v1/events", params={"limit": "700"})).status == 200


async def test_who_does_not_read_its_answer_is_left(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.5)
    await post(client, *[event("probe_viewed", probe=f"{'p' * 190}_{number}") for number in range(1_000)])

    async def folded() -> bool:
        response = await client.get("/v1/popularity", params={"since": "2026-11-01T00:00:00Z", "limit": "10000"})
        probes: list[object] = (await response.json())["probes"]
        return len(probes) >= 1_000

    await eventually(folded, "the views are folded")
    asked = b"GET /v1/popularity?since=2026-11-01T00:00:00Z&limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with capture_logs() as logged:
        async with spoken(client, asked * 60):

            async def left() -> bool:
                return "answer_not_taken" in {line["event"] for line in logged}

            await eventually(left, "who does not read is left")
        await is_well(client)


def packed_again(data: bytes) -> bytes:
    return gzip.compress(data, 9)


def deep(times: int) -> bytes:
    return b"[" * times + b"]" * times


HUGE = [
    b"1" * 100_000,
    b"1e999999",
    b"-" + b"9" * 400,
    deep(100_000),
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'"\\ud800"',
    b"\xff\xfe\x00",
    b'{"query": {"product": "\xc3\x28"}}',
    b'{"query": ' + b'{"query": ' * 1_000 + b"1" + b"}" * 1_001,
    b'{"query": {"versions": 1e400}}',
    b"\x00" * 1_000,
    b"",
]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "POST"], ids=named)
@pytest.mark.parametrize("body", HUGE, ids=lambda body: repr(body[:12]))
async def test_no_body_is_answered_with_a_5xx(client: Client, route: Route, body: bytes) -> None:
    for kind in ("application/json", "application/x-ndjson"):
        for sent, encoding in ((body, "identity"), (packed_again(body), "gzip")):
            headers = {"Content-Type": kind, "Content-Encoding": encoding}
            response = await client.post(filled(route.path), data=sent, headers=headers)
            text = await response.text()
            assert 400 <= response.status < 500, text[:500]
            assert not INSIDE.search(text)
            assert len(text) < 5_000


@pytest.mark.parametrize("path", ["/v1/events", "/api/v1/data/"])
async def test_no_gzip_that_is_cut_short_is_taken(client: Client, path: str) -> None:
    body = event() if path == "/v1/events" else {"query": {}}
    packed = gzip.compress(json.dumps(body).encode())
    headers = JSON | {"Content-Encoding": "gzip", "Connection": "close"}
    for length in [1, 5, 9, *range(10, len(packed), 7), *range(len(packed) - 9, len(packed))]:
        response = await client.post(path, data=packed[:length], headers=headers)
        assert response.status == 400, (length, await response.text())
        assert "application/problem+json" in response.headers["Content-Type"]


async def test_bombs_take_no_memory(client: Client) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(2**20)) for _ in range(200)), packer.flush()])
    process = psutil.Process()
    before = process.memory_info().rss
    headers = JSON | {"Content-Encoding": "gzip"}
    answers = await asyncio.gather(
        *(client.post(path, data=bomb, headers=headers) for path in ("/v1/events", "/v1/builds", "/api/v1/data/") * 4)
    )
    assert {answer.status for answer in answers} <= {400, 413}
    await is_well(client)
    assert process.memory_info().rss - before < 100 * 2**20


REQUESTS = st.lists(
    st.sampled_from(
        [b"GET ", b"POST ", b"/v1/events", b"/", b" HTTP/1.1\r\n", b" HTTP/9.9\r\n", b"Host: localhost\r\n", b"\r\n",
         b"\n",
         b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n",
         b"ffffffffffffffff\r\n", b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n",
         b"Connection: upgrade\r\n", b"\x00", b"\xff", b"a" * 9_000, b": \r\n", b" \r\n"]
    ) | st.binary(max_size=8),
    max_size=14,
)  # fmt: skip


@FUZZ
@given(parts=REQUESTS)
async def test_nothing_that_is_sent_is_answered_with_a_5xx(client: Client, parts: list[bytes]) -> None:
    async with spoken(client, b"".join(parts)) as (reader, writer), asyncio.timeout(20):
        writer.write_eof()
        answer = await reader.read()
        for line in answer.split(b"\r\n"):
            if line.startswith(b"HTTP/1."):
                assert line.split(b" ")[1][:1] in b"1234", answer
        assert not INSIDE.search(answer.decode(errors="replace"))


def text_parameters() -> list[tuple[str, str]]:
    """Return every query parameter of every route."""
    kinds: dict[str, type[msgspec.Struct]] = {
        "/v1/events": log.LogParameters,
        "/v1/popularity": popularity.PopularityParameters,
        "/v1/hotlist": hotlist.HotlistParameters,
        "/v1/hotlist/backtest": hotlist_backtest.BacktestParameters,
        "/v1/hotlist/experiment": hotlist_experiment.ExperimentParameters,
        "/v1/hotlist/rules": hotlist_rules.RulesParameters,
        "/v1/unused": unused.UnusedParameters,
        "/v1/timeseries": timeseries.TimeSeriesParameters,
        "/v1/journeys": journeys.JourneyParameters,
        "/v1/releases/impact": releases.ImpactParameters,
        "/v1/sessions/summary": session_summaries.SummaryParameters,
        "/v1/sessions": sessions.SessionParameters,
        "/v1/probes/fog/gc_ms": probes.ProbeParameters,
        "/api/v1/usage/": glam_usage.UsageParameters,
    }
    return [(path, name) for path, kind in kinds.items() for name in kind.__struct_encode_fields__]


INJECTIONS = [*STATEMENTS, "fog'--", 'fog"; --', "\\'; SELECT 1; --", "$1", "%s", "*/ DROP TABLE tokens; /*", "fog\x00"]


async def test_no_text_parameter_is_taken_for_sql(client: Client, worker_database_url: str) -> None:
    await post(client, event())
    async with connected(worker_database_url) as database:
        before = await database.fetchval("SELECT count(*) FROM event_log")
        for path, name in text_parameters():
            for text in random.Random(path + name).sample(INJECTIONS, 4):
                response = await client.get(path, params={name: text})
                body = await response.text()
                assert response.status < 500, (path, name, text, body)
                assert not INSIDE.search(body.replace(text, ""))
        for text in INJECTIONS:
            path = f"/v1/probes/{quote(text, safe='')}/{quote(text, safe='')}"
            assert (await client.get(path, params={"channel": "nightly"})).status < 500
            query = {"product": text, "app_id": text, "ping_type": text, "probe": text, "aggregationLevel": text}
            for changed in ({}, {"product": "fog"}, {"product": "fog", "app_id": "nightly"}):
                asked = await client.post("/api/v1/data/", json={"query": query | changed})
                assert asked.status == 400
            wanted = {"product": "fog", "channel": text, "probe": text}
            assert (await client.post("/v1/builds", json=wanted)).status == 422
        assert await database.fetchval("SELECT count(*) FROM event_log") == before
