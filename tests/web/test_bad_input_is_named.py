"""Bad JSON and bad parameters are answered with the right 4xx, which names the field and what would be right."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.bad_input import INSIDE, JSON, LINES, STATEMENTS, get, one_service, refused, service
from tests.support.servers import NOON, Client, event, post

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with one_service(module_database_url) as client:
        yield client


async def last_position(client: Client) -> int:
    return int(await service(client).pool.fetchval("SELECT last_position()"))


def fragment(members: str) -> bytes:
    """Return an event's JSON text with members that json.dumps would not write."""
    return f'{{"event_id": "{uuid4()}", "occurred_at": "{NOON}", {members}}}'.encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(("/v1/events", body) for body in (b"NaN", b'{"a": 1e}', b'{"events": [1}', DEEP, b'{"product":' + DEEP)),
        *(("/v1/builds", body) for body in (b"{", b'{"product": "fog"', b'{"product": "\xff"}')),
        *((path, body) for path in ("/v1/events", "/v1/builds") for body in (b"", b" ", b"nonsense", b"\xff\xfe[]")),
    ],
    ids=lambda value: repr(value[:12]),
)
async def test_a_body_that_is_not_json_is_400(client: Client, path: str, body: bytes) -> None:
    assert "JSON" in (await refused(await client.post(path, data=body, headers=JSON), 400))["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"5", ""),
        (b"null", ""),
        (b'"text"', ""),
        (b"[]", ""),
        (b'{"events": []}', ""),
        (b'{"events": 5}', "/events"),
        (b'{"events": [], "colour": 1}', "/colour"),
        (b'{"events": [], "a/b~c": 1}', "/a~1b~0c"),
        (b'{"events": [], "sent_at": "today"}', "/sent_at"),
        (b"{}", "/0/type"),
        (b"[5]", "/0"),
        (b"[[]]", "/0"),
        (b'[{"type": "page_viewed"}]', "/0/event_id"),
    ],
)
async def test_a_body_of_another_shape_is_422_and_points_there(client: Client, body: bytes, pointer: str) -> None:
    problem = await refused(await client.post("/v1/events", data=body, headers=JSON), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"type": "nonsense", "x":', "/0"),
        (b'{"type": 5, "x":', "/0"),
        (fragment('"type": "x_a", "data": {"a":'), "/0"),
        (fragment('"type": "x_a", "data": {"a": NaN}'), "/0"),
        (fragment('"type": "x_a", "data": {"a": 1e400}'), "/0/data"),
        (fragment(f'"type": "x_a", "data": {{"a": {"9" * 5_000}}}'), "/0/data"),
        (fragment(f'"type": "x_a", "data": {{"a": {"[" * 100 + "]" * 100}}}'), "/0/data"),
        (fragment(f'"type": "x_a", "data": {{"a": {DEEP.decode()}}}'), "/0"),
        (fragment(f'"type": "page_viewed", "data": {{"page": {DEEP.decode()}}}'), "/0"),
        (fragment(f'"type": "page_viewed", "colour": {DEEP.decode()}'), "/0"),
        (fragment(r'"type": "x_a", "data": {"a": "\ud800"}'), "/0"),
        (fragment(r'"type": "x_a", "visitor": "\ud800"'), "/0"),
        (fragment(r'"type": "x_a", "data": {"a": "\u0000"}'), "/0/data"),
        (fragment('"type": "x_a", "data": {"a": "?"}').replace(b"?", b"\xff"), "/0"),
        (fragment('"type": "x_a", "data": {"a": "?"}').replace(b"?", b"\xed\xa0\x80"), "/0"),
        (fragment('"type": "control_changed", "data": {"control": "a", "value": 1e400}'), "/0/data/value"),
        (fragment('"type": "page_viewed", "data": {"page": "/", "a`b": 1}'), "/0/data/a`b"),
        (fragment('"type": "page_viewed", "data": {"page": "/"}, "": 1'), "/0/"),
        (fragment('"type": "probe_searched", "data": {"query": "a", "results": 1e9999999999}'), "/0/data/results"),
        (fragment('"type": "page_viewed"'), "/0/data"),
        (b"\xff", "/0"),
    ],
    ids=lambda value: repr(value[-40:]),
)
async def test_a_line_that_cannot_be_recorded_is_refused_alone(client: Client, text: bytes, pointer: str) -> None:
    body = b"\n".join([json.dumps(event()).encode(), text, json.dumps(event()).encode()])
    response = await client.post("/v1/events", data=body, headers=LINES)
    answer = await response.json()
    assert response.status == 207, answer
    assert [item["status"] for item in answer["events"]] == ["recorded", "refused", "recorded"]
    error = answer["events"][1]["error"]
    assert error["pointer"].replace("/1", "/0", 1) == pointer
    assert error["detail"]
    assert not INSIDE.search(json.dumps(answer))


@pytest.mark.parametrize(
    ("sent_at", "occurred_at"),
    [
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59-14:00"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
    ],
)
async def test_clocks_at_the_ends_of_the_calendar_are_refused(client: Client, sent_at: str, occurred_at: str) -> None:
    response = await client.post("/v1/events", json={"sent_at": sent_at, "events": [event(occurred_at=occurred_at)]})
    assert (await refused(response, 422))["errors"][0]["pointer"] == "/0/occurred_at"


async def test_more_than_a_thousand_events_are_refused_whole(client: Client) -> None:
    before = await last_position(client)
    events = [event("x_a", data={}) for _ in range(1_001)]
    for problem in (
        await refused(await client.post("/v1/events", json=events), 422),
        await refused(await client.post("/v1/events", data="\n".join(map(json.dumps, events)), headers=LINES), 422),
    ):
        assert "1001 events" in problem["detail"]
        assert "1 to 1000" in problem["detail"]
    assert await last_position(client) == before
    assert (await client.post("/v1/events", json=events[:1_000])).status == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/product"),
        ({"product": "fog", "channel": "nightly"}, "/probe"),
        ({"product": 5, "channel": "nightly", "probe": "gc_ms"}, "/product"),
        ({"product": "fog", "channel": "nightly", "probe": "a\x00b"}, "/probe"),
        ({"product": "fog", "channel": "nightly", "probe": "a" * 201}, "/probe"),
        ({"product": "fog", "channel": STATEMENTS[0], "probe": "gc_ms"}, "/channel"),
        ({"product": "fog", "channel": "nightly", "probe": "gc_ms", "colour": "red"}, "/colour"),
        ([], ""),
    ],
)
async def test_a_request_for_a_build_is_told_its_wrong_field(client: Client, body: object, pointer: str) -> None:
    problem = await refused(await client.post("/v1/builds", json=body), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("/v1/popularity?window=7d%0A", "window"),
        ("/v1/popularity?window=0d", "window"),
        ("/v1/popularity?window=9999d&until=0001-01-01T00:00:00Z", "until"),
        ("/v1/popularity?window=9999d", "since"),
        ("/v1/popularity?until=9999-12-31T23:59:59-14:00", "until"),
        ("/v1/popularity?until=2026-11-20T12:00:00", "until"),
        ("/v1/popularity?since=0001-01-01T00:00:00%2B14:00", "since"),
        ("/v1/popularity?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("/v1/popularity?since=2026-01-01T00:00:00Z&window=7d", "since"),
        ("/v1/popularity?limit=0", "limit"),
        ("/v1/popularity?limit=10001", "limit"),
        ("/v1/popularity?limit=" + "9" * 40, "limit"),
        ("/v1/popularity?limit=1e400", "limit"),
        ("/v1/popularity?limit=NaN", "limit"),
        ("/v1/popularity?limit=1.5", "limit"),
        ("/v1/popularity?limit=", "limit"),
        ("/v1/popularity?limit=5&limit=5", "limit"),
        ("/v1/popularity?limit=%00", "limit"),
        ("/v1/popularity?bots=maybe", "bots"),
        ("/v1/popularity?order=upwards", "order"),
        ("/v1/popularity?product=%00", "product"),
        ("/v1/popularity?product=%ff", "product"),
        ("/v1/popularity?channel=" + "a" * 4_000, "channel"),
        ("/v1/popularity?%00=1", "\x00"),
        ("/v1/popularity?%ff=1", "\ufffd"),
        ("/v1/popularity?%ed%a0%80=1", "\ufffd" * 3),
        ("/v1/popularity?a/b~c=1", "a/b~c"),
        ("/v1/popularity?" + "a" * 4_000, "a" * 4_000),
        ("/v1/hotlist?budget=-1", "budget"),
        ("/v1/hotlist?until=0001-01-01T00:00:00Z", "until"),
        ("/v1/sessions?bots=1", "bots"),
        ("/v1/sessions?until=0001-01-01T00:00:00Z", "until"),
        ("/v1/sessions?since=1e400", "since"),
        ("/v1/sessions?since=nan", "since"),
        ("/v1/sessions?since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("/v1/probes/fog/gc_ms", "channel"),
        ("/v1/probes/fog/gc_ms?channel=nightly&version=-1", "version"),
        ("/v1/probes/fog/gc_ms?channel=nightly&os=%00", "os"),
        ("/v1/probes/fog/gc_ms?channel=nightly&os=" + "a" * 201, "os"),
        ("/v1/probes/fog/%00?channel=nightly", "probe"),
        ("/v1/probes/fog/a%2Fb?channel=nightly", "probe"),
        ("/v1/probes/fog/" + "a" * 4_000 + "?channel=nightly", "probe"),
        ("/v1/probes/Fog!/gc_ms?channel=nightly", "product"),
        *((f"/v1/popularity?product={quote(text)}", "product") for text in STATEMENTS),
        *((f"/v1/sessions?limit={quote(text)}", "limit") for text in STATEMENTS),
    ],
    ids=lambda value: repr(value[:60]),
)
async def test_a_wrong_parameter_is_named(client: Client, query: str, parameter: str) -> None:
    problem = await refused(await get(client, query), 422)
    assert [error["parameter"] for error in problem["errors"]] == [parameter]
    assert problem["errors"][0]["detail"]


async def test_a_choice_is_told_its_options(client: Client) -> None:
    problem = await refused(await get(client, "/v1/popularity?order=upwards"), 422)
    assert problem["errors"][0]["detail"] == "must be one of most, least, trending"


@pytest.mark.parametrize("text", STATEMENTS)
async def test_statements_in_free_text_stay_text(client: Client, text: str) -> None:
    [item] = await post(client, event(data={"page": text}, visitor=text))
    query = urlencode({"channel": "nightly", "os": text, "metric_key": text})
    await refused(await get(client, f"/v1/probes/fog/gc_ms?{query}"), 404)
    stored = "SELECT data ->> 'page' FROM event_log WHERE position = $1"
    assert await service(client).pool.fetchval(stored, item["position"]) == text
