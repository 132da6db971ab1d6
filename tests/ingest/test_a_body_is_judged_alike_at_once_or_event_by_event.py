"""What becomes of an event does not depend on its neighbours: decoded with all of a body in one call, or by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.servers import JsonObject, event, rounds
from usage_service.events import NO_NUL, AnyEvent
from usage_service.ingest.appending import Record
from usage_service.ingest.bulk_decoding import _plain
from usage_service.ingest.parsing import Envelope, Reader, Refusal, parse_body
from usage_service.ingest.visitors import MOST_REMEMBERED, VisitorKeys

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
IDS = [f"018f4e3a-7b1c-7d2e-8f00-00000000000{number}" for number in range(10)]
# Of known types and well-formed: but for the first, something else is wrong with each of the others than its form.
WELL_FORMED: list[JsonObject] = [
    {},
    {"visitor": None},
    {"occurred_at": "2026-11-23T12:00:00Z"},
    {"occurred_at": "1999-12-31T23:59:59Z"},
    {"occurred_at": "0001-01-01T00:00:00+05:00"},
]
OTHERS: list[JsonObject] = [
    {"type": "x_note", "data": {"deep": [1, {"a": None}]}},
    {"type": "x_note", "data": {"nul": "\0"}},
    {"type": "y_note"},
    {"data": {"page": ""}},
    {"data": {"page": "/a", "unknown": 1}},
    {"visitor": ""},
    {"event_id": "17"},
    {"bad": 1},
    {"product": "Fog"},
    {"product": "fog\n"},
    {"channel": ""},
    {"probe": "gc ms"},
    {"visitor": "ann\0"},
    {"data": {"page": "/\0"}},
    {"data": {"page": "/a", "referrer": "a text that names \\u0000"}},
    {"type": "link_followed", "data": {"tool": ""}},
    {"type": "probe_registered", "product": "fog", "probe": "gc_ms", "data": {"type": "counter", "link": "ftp://a"}},
]


def made(index: int, fields: JsonObject) -> JsonObject:
    """Make an event whose address has something to be masked."""
    usual: JsonObject = {"data": {"page": f"/{index}?secret=1"}, "occurred_at": "2026-11-20T11:00:00+01:00"}
    return event(**({"event_id": IDS[index]} | usual | fields))


def read(body: bytes, keys: VisitorKeys) -> list[Record | Refusal]:
    """Return what becomes of the events of a body."""
    return Reader(keys).read(parse_body(body), "tests", NOON)


def alone(posted: list[JsonObject], sent_at: datetime | None, keys: VisitorKeys) -> list[Record | Refusal]:
    """Return what becomes of events of which each is decoded by itself."""
    raw = Envelope([msgspec.Raw(json.dumps(one).encode()) for one in posted], sent_at)
    return Reader(keys).read(raw, "tests", NOON)


@settings(max_examples=rounds(25), deadline=None, database=None)
@given(
    st.lists(st.sampled_from([*WELL_FORMED, *WELL_FORMED, *OTHERS]), min_size=1, max_size=6),
    st.sampled_from([None, NOON - timedelta(days=3), NOON + timedelta(seconds=1)]),
)
def test_neighbours_change_nothing(fields: list[JsonObject], sent_at: datetime | None) -> None:
    keys = VisitorKeys("secret", 90)
    posted = [made(index, one) for index, one in enumerate(fields)]
    sent = {} if sent_at is None else {"sent_at": sent_at.isoformat()}
    together = read(json.dumps({"events": posted} | sent).encode(), keys)
    assert together == alone(posted, sent_at, keys)
    if sent_at is None:
        assert read(json.dumps(posted).encode(), keys) == together


def test_what_is_well_formed_is_decoded_in_one_call() -> None:
    good = [made(index, fields) for index, fields in enumerate(WELL_FORMED)]
    for wrapped in (lambda events: events, lambda events: {"events": events}):
        assert not any(isinstance(one, msgspec.Raw) for one in parse_body(json.dumps(wrapped(good)).encode()).events)
        for other in OTHERS:
            body = json.dumps(wrapped([*good, made(9, other)])).encode()
            assert all(isinstance(one, msgspec.Raw) for one in parse_body(body).events), other


def test_types_of_whole_bodies_lack_the_patterns_that_are_checked_apart_and_nothing_else() -> None:
    pairs = zip(get_args(_plain(AnyEvent)), get_args(AnyEvent), strict=True)
    left_out = {found for plain, full in pairs for found in differences(schema_of(plain), schema_of(full), "")}
    names = {f"/properties/{name}" for name in ("product", "channel", "probe")}
    assert {place for place, pattern in left_out if pattern != NO_NUL} == names
    assert all(place.count("/properties/") == 1 for place, pattern in left_out if pattern != NO_NUL)
    assert any(pattern == NO_NUL for _, pattern in left_out)


def schema_of(kind: type[msgspec.Struct]) -> object:
    """Return the JSON Schema of an event type, its own fields included, without what is for people to read."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="{name}")

    def resolved(part: object) -> object:
        if isinstance(part, dict):
            whole = parts[part["$ref"]] if "$ref" in part else part
            return {name: resolved(value) for name, value in whole.items() if name not in ("description", "title")}
        return [resolved(one) for one in part] if isinstance(part, list) else part

    return resolved(schema)


def differences(plain: object, full: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield the patterns of a schema that another lacks, each with its place. Fail where anything else differs."""
    if isinstance(plain, dict) and isinstance(full, dict):
        if "pattern" in full.keys() - plain.keys():
            yield place, full["pattern"]
        assert {*plain, "pattern"} == {*full, "pattern"}, place
        for name in plain:
            yield from differences(plain[name], full[name], place if name == "anyOf" else f"{place}/{name}")
    elif isinstance(plain, list) and isinstance(full, list) and place.rpartition("/")[2] not in ("required", "enum"):
        for one, other in zip(plain, full, strict=True):
            yield from differences(one, other, place)
    else:
        assert plain == full, place


def test_the_digest_of_an_event_stays_what_it_was() -> None:
    """A repeat of an event that an earlier version recorded has to be known as one: the log compares digests."""
    data = {"page": "/fog/probe/gc_ms/explore", "referrer": "https://example.org/ü\u2028"}
    [record] = read(
        json.dumps([made(0, {"product": "fog", "channel": None, "data": data})]).encode(), VisitorKeys("a", 9)
    )
    assert isinstance(record, Record)
    assert record.digest == UUID("3eaab67b-5bdd-13b9-29fd-eba8a5575f43")


@pytest.mark.parametrize("rotation_days", [1, 90])
def test_remembered_visitors_have_the_key_of_their_epoch(rotation_days: int) -> None:
    keys = VisitorKeys("secret", rotation_days)
    days = [keys.epoch(NOON), keys.epoch(NOON + timedelta(days=rotation_days))]
    first = [keys.of("ann", day) for day in days]
    assert len({key.lookup for key in first}) == len(days)
    for number in range(2 * MOST_REMEMBERED):
        keys.of(f"visitor {number}", days[0])
    assert (
        [keys.of("ann", day) for day in days]
        == first
        == [VisitorKeys("secret", rotation_days).of("ann", day) for day in days]
    )
    keys.forget()
    assert [keys.of("ann", day) for day in days] == first
