"""In a batch each event is judged on its own, and the answer says which was refused and why."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.support.servers import NOON, Client, Connection, event, post


async def test_all_recorded_is_201_with_positions_in_order(client: Client) -> None:
    items = await post(client, event(), event("probe_viewed"), event("x_mine", data={"any": ["thing"]}))
    assert [item["status"] for item in items] == ["recorded"] * 3
    assert [item["position"] for item in items] == [1, 2, 3]


async def test_one_bad_event_does_not_take_its_neighbours_along(client: Client, database: Connection) -> None:
    bad = event(data={})
    response = await client.post("/v1/events", json=[event(), bad, event()])
    assert response.status == 207
    items = (await response.json())["events"]
    assert [item["status"] for item in items] == ["recorded", "refused", "recorded"]
    assert items[1]["event_id"] == bad["event_id"]
    assert items[1]["error"] == {"pointer": "/1/data/page", "detail": "is missing"}
    assert await database.fetchval("SELECT count(*) FROM event_log") == 2


async def test_all_refused_is_422_and_says_why_of_each(client: Client) -> None:
    response = await client.post("/v1/events", json=[event(data={}), event("nonsense")])
    body = await response.json()
    assert response.status == 422
    assert response.content_type == "application/problem+json"
    assert [error["pointer"] for error in body["errors"]] == ["/0/data/page", "/1/type"]
    assert [item["status"] for item in body["events"]] == ["refused", "refused"]


async def test_a_repeat_answers_the_original_position(client: Client) -> None:
    first, second = event(), event()
    [original, _] = await post(client, first, second)
    [again] = await post(client, first)
    assert again["status"] == "duplicate"
    assert again["position"] == original["position"]


async def test_a_repeat_within_one_request_is_recorded_once(client: Client, database: Connection) -> None:
    same = event()
    items = await post(client, same, same)
    assert [item["status"] for item in items] == ["recorded", "duplicate"]
    assert items[0]["position"] == items[1]["position"]
    assert await database.fetchval("SELECT count(*) FROM event_log") == 1


async def test_another_event_under_a_used_id_is_a_conflict(client: Client) -> None:
    first = event()
    [original] = await post(client, first)
    response = await client.post("/v1/events", json=[first | {"data": {"page": "/other"}}, event()])
    items = (await response.json())["events"]
    assert response.status == 207
    assert items[0]["status"] == "conflict"
    assert items[0]["position"] == original["position"]
    assert items[0]["error"]["pointer"] == "/0/event_id"


async def test_the_order_of_keys_in_a_repeat_does_not_matter(client: Client) -> None:
    first = event("x_mine", data={"a": 1, "b": {"c": 2, "d": 3}})
    await post(client, first)
    [again] = await post(client, dict(reversed(first.items())) | {"data": {"b": {"d": 3, "c": 2}, "a": 1}})
    assert again["status"] == "duplicate"


async def test_a_bare_event_an_envelope_and_lines_are_taken_too(client: Client, database: Connection) -> None:
    assert (await client.post("/v1/events", json=event())).status == 201
    assert (await client.post("/v1/events", json={"events": [event()], "sent_at": NOON})).status == 201
    lines = "\n".join([json.dumps(event()), "", json.dumps(event())])
    headers = {"Content-Type": "application/x-ndjson"}
    assert (await client.post("/v1/events", data=lines, headers=headers)).status == 201
    packed = gzip.compress(json.dumps([event()]).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await client.post("/v1/events", data=packed, headers=headers)).status == 201
    assert await database.fetchval("SELECT count(*) FROM event_log") == 5


async def test_a_broken_line_is_refused_alone(client: Client) -> None:
    lines = "\n".join([json.dumps(event()), "{broken", json.dumps(event())])
    response = await client.post("/v1/events", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert response.status == 207
    assert [item["status"] for item in (await response.json())["events"]] == ["recorded", "refused", "recorded"]


async def test_the_raw_visitor_is_not_stored(client: Client, database: Connection) -> None:
    raw = f"raw-{uuid4()}"
    await post(client, event(visitor=raw), event(visitor=raw), event(visitor=None))
    rows = await database.fetch("SELECT visitor, event_log::text AS whole FROM event_log ORDER BY position")
    assert rows[0]["visitor"] == rows[1]["visitor"] is not None
    assert rows[2]["visitor"] is None
    assert not any(raw in row["whole"] for row in rows)


async def test_the_senders_clock_is_corrected_by_sent_at(client: Client, database: Connection) -> None:
    fast = datetime.now(UTC) + timedelta(days=300)
    happened = event(occurred_at=(fast - timedelta(minutes=10)).isoformat())
    response = await client.post("/v1/events", json={"sent_at": fast.isoformat(), "events": [happened]})
    assert response.status == 201
    age = await database.fetchval("SELECT recorded_at - occurred_at FROM event_log")
    assert abs(age - timedelta(minutes=10)) < timedelta(seconds=30)


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"occurred_at": "3026-01-01T00:00:00Z"}, "/0/occurred_at"),
    ({"occurred_at": "1999-12-31T23:59:59Z"}, "/0/occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "/0/occurred_at"),
    ({"occurred_at": "2026-11-20T12:00:00"}, "/0/occurred_at"),
    ({"occurred_at": "yesterday"}, "/0/occurred_at"),
    ({"event_id": "17"}, "/0/event_id"),
    ({"event_id": 5}, "/0/event_id"),
    ({"visitor": ""}, "/0/visitor"),
    ({"visitor": 17}, "/0/visitor"),
    ({"product": "Fog!"}, "/0/product"),
    ({"colour": "red"}, "/0/colour"),
    ({"data": {"page": "/", "colour": "red"}}, "/0/data/colour"),
    ({"data": {"page": "a\x00b"}}, "/0/data/page"),
    ({"data": {"page": "/", "bot": "yes"}}, "/0/data/bot"),
    ({"data": "none"}, "/0/data"),
    ({"type": "build_started"}, "/0/type"),
    ({"type": 5}, "/0/type"),
    ({"type": "x_" + "y" * 100}, "/0/type"),
    ({"type": "x_big", "data": {"blob": "y" * 17_000}}, "/0/data"),
    ({"type": "x_nul", "data": {"deep": [{"a\x00": 1}]}}, "/0/data"),
]


async def test_a_refusal_points_at_the_field(client: Client) -> None:
    for fields, pointer in REFUSED:
        response = await client.post("/v1/events", json=[event() | fields])
        body = await response.json()
        assert response.status == 422, body
        assert body["errors"][0]["pointer"] == pointer
        assert body["errors"][0]["detail"]
