"""Any mix of good and bad events, in any form: the good ones are recorded, in order; of the others it is said which."""

from __future__ import annotations

import json
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.request_forms import FORMS, JSON, LINES, in_form
from tests.support.servers import Client, Connection, JsonObject, event, rounds

FEW = settings(
    max_examples=rounds(20),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GOOD = st.sampled_from(["page_viewed", "probe_viewed", "x_mine"])
REPLACED = st.dictionaries(
    st.sampled_from(["type", "occurred_at", "data"]),
    st.sampled_from([17, True, [], "", "\x00", "build_started", {"no such": "field"}]),
    min_size=1,
    max_size=3,
)
LACKING = st.sampled_from(["type", "occurred_at", "data"])
NO_OBJECTS: list[object] = [None, 17, -1.5, "text", True, [], [[]], {}, {"type": "page_viewed"}]
# Each is a broken line of its own, whatever its neighbours are.
BROKEN = [b"{", b"}", b'{"event_id"', b"\xff\xfe", b"nul", b"[1,", b'"', b"{}{}", b"[" * 100_000, b"\x00"]


def bad(made: JsonObject, change: JsonObject | str) -> JsonObject:
    """Draw an event that lacks a field, or has wrong values in some."""
    if isinstance(change, str):
        return {name: value for name, value in made.items() if name != change}
    return made | change


BAD = st.builds(lambda change: bad(event(), change), REPLACED | LACKING) | st.sampled_from(NO_OBJECTS)
MIXES = st.lists(st.tuples(st.just(True), GOOD.map(event)) | st.tuples(st.just(False), BAD), min_size=1, max_size=12)


def renewed(item: object) -> object:
    """Return the item under an id that no earlier example has used."""
    return item | {"event_id": str(uuid4())} if isinstance(item, dict) and "event_id" in item else item


def id_of(item: object) -> str | None:
    return item.get("event_id") if isinstance(item, dict) else None


async def recorded_after(database: Connection, position: int) -> list[tuple[int, str]]:
    rows = await database.fetch("SELECT * FROM event_log WHERE position > $1 ORDER BY position", position)
    return [(row["position"], str(row["event_id"])) for row in rows]


@FEW
@given(mix=MIXES, form=st.sampled_from(FORMS))
async def test_the_good_ones_are_recorded_and_the_others_named(
    client: Client, database: Connection, mix: list[tuple[bool, object]], form: str
) -> None:
    start = await database.fetchval("SELECT last_position()")
    items = [(good, renewed(item)) for good, item in mix]
    if form == "bare" and len(items) == 1 and not isinstance(items[0][1], dict):
        form = "array"  # what is bare and no object is no event at all, and another test's
    body, headers = in_form(form, [item for _, item in items])
    response = await client.post("/v1/events", data=body, headers=headers)
    answer = await response.json()
    good = [id_of(item) for is_good, item in items if is_good]
    assert response.status == (201 if len(good) == len(items) else 207 if good else 422), answer
    assert await recorded_after(database, start) == [(start + n, event_id) for n, event_id in enumerate(good, 1)]
    for index, ((is_good, item), said) in enumerate(zip(items, answer["events"], strict=True)):
        assert (said["index"], said["event_id"]) == (index, id_of(item))
        assert said["status"] == ("recorded" if is_good else "refused")
        if not is_good:
            assert (said["error"]["pointer"] + "/").startswith(f"/{index}/")
            assert said["error"]["detail"]


@FEW
@given(good=st.lists(GOOD.map(event), max_size=6), broken=st.lists(st.sampled_from(BROKEN), max_size=4), data=st.data())
async def test_lines_that_are_no_json_are_refused_alone(
    client: Client, database: Connection, good: list[JsonObject], broken: list[bytes], data: st.DataObject
) -> None:
    if not good and not broken:
        return
    start = await database.fetchval("SELECT last_position()")
    made = [json.dumps(renewed(item)).encode() for item in good]
    lines = data.draw(st.permutations([*made, *broken]))
    response = await client.post("/v1/events", data=b"\r\n\n".join(lines), headers=LINES)
    answer = await response.json()
    assert [item["status"] == "recorded" for item in answer["events"]] == [line in made for line in lines], answer
    expected = [json.loads(line)["event_id"] for line in lines if line in made]
    assert [event_id for _, event_id in await recorded_after(database, start)] == expected


@FEW
@given(good=GOOD.map(event), broken=st.sampled_from(BROKEN))
async def test_an_array_that_is_no_json_is_refused_as_a_whole(
    client: Client, database: Connection, good: JsonObject, broken: bytes
) -> None:
    start = await database.fetchval("SELECT last_position()")
    body = b"[" + json.dumps(renewed(good)).encode() + b"," + broken + b"]"
    response = await client.post("/v1/events", data=body, headers=JSON)
    await response.read()
    assert response.status == 400
    assert await recorded_after(database, start) == []
