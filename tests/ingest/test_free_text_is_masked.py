"""What the app reports is stored without queries, fragments and e-mail addresses, and is known when it comes again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import SECRET, Start
from tests.support.servers import Client, Connection, JsonObject, event, post, registered, rounds
from usage_service.events import EVENT_TYPES, AppData
from usage_service.ingest.appending import Record
from usage_service.ingest.masking import MASK, Masking, mask_json, mask_text
from usage_service.ingest.parsing import Envelope, Reader
from usage_service.ingest.visitors import VisitorKeys
from usage_service.shared.settings import ServerSettings, SettingsError, load_settings

ANN = "ann.b@example.org"
AN_ADDRESS = re.compile(r"[^\s@]@+[^\s@]")
FEW = settings(max_examples=rounds(15), deadline=None, database=None)
POSTED = settings(
    max_examples=rounds(5), deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    ["@", "%40", "%2540", "\uff20", " ", "/", "?", "#", "&", "=", '"', ".", "a", "é", "//", "\n", ":"]
)
TEXTS = st.lists(PIECES | st.emails() | st.text(max_size=5), max_size=12).map("".join)
JSON_VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def at_signs(text: str) -> str:
    """Write every form of an at sign as one."""
    while (
        plain := text.replace("%2540", "%40").replace("%40", "@").replace("\uff20", "@").replace("\ufe6b", "@")
    ) != text:
        text = plain
    return text


def texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value if isinstance(value, list) else ():
        yield from texts_of(part)
    for name, part in value.items() if isinstance(value, dict) else ():
        yield name
        yield from texts_of(part)


@FEW
@given(text=TEXTS)
@example(text="a%25%32%35@b")
@example(text=" @a@b")
@example(text="a@b/@c")
@example(text="mailto:ann@example.org,bob@example.org")
def test_no_address_is_left_and_masking_again_changes_nothing(text: str) -> None:
    masked = mask_text(text)
    assert not AN_ADDRESS.search(at_signs(masked))
    assert mask_text(masked) == masked
    assert len(masked) <= len(text)
    if "@" not in at_signs(text):
        assert masked == text


@FEW
@given(email=st.emails(), before=st.sampled_from(["", "for ", "/people/", "<", "?q="]), coded=st.booleans())
def test_every_address_is_masked_whole(email: str, before: str, coded: bool) -> None:
    local, _, domain = email.partition("@")
    masked = mask_text(before + (quote(email, safe="") if coded else email))
    assert MASK in masked
    assert domain not in masked
    assert re.split(r"[/?#&=<>(),;|]", local)[-1] + "@" not in masked


@FEW
@given(address=TEXTS, kept=st.sets(st.sampled_from(["a", "b"])))
@example(address="/?a=@b", kept={"a"})
@example(address="//x%40 /y@z", kept=set())
def test_an_address_of_a_page_has_no_more_than_the_parameters_that_are_kept(address: str, kept: set[str]) -> None:
    masking = Masking(frozenset(kept))
    masked = masking.mask_address(address)
    assert "#" not in masked
    assert {part.partition("=")[0] for part in masked.partition("?")[2].split("&") if part} <= kept
    assert not AN_ADDRESS.search(at_signs(masked))
    assert masking.mask_address(masked) == masked
    assert bool(masked) == bool(address)
    assert len(masked) <= len(address)


def leaves_of(value: object) -> list[object]:
    """Return the values that are no object and no array, with their texts masked, in the order of their forms."""
    if isinstance(value, list | dict):
        parts = value if isinstance(value, list) else value.values()
        return sorted((leaf for part in parts for leaf in leaves_of(part)), key=repr)
    return [mask_text(value) if isinstance(value, str) else value]


@FEW
@given(value=JSON_VALUES)
@example(value={"a@b": 1, "c@d": [2, {"***": 3, "***2": 4, "e@f": 5, "g@h": 6}]})
@example(value={"a@b,x@": 1, "c@d,x@": 2, "a@b c@d": 3, "e@f g@h": 4})
def test_data_of_any_form_hold_no_address_and_all_values(value: object) -> None:
    masked = mask_json(value)
    assert not [text for text in texts_of(masked) if AN_ADDRESS.search(at_signs(text))]
    assert mask_json(masked) == masked
    assert leaves_of(masked) == leaves_of(value)


def test_names_that_are_masked_alike_are_numbered_in_the_order_of_names() -> None:
    named = {"b@x": 2, "a@x": 1, "***": 0, "of c@x": 3, "of d@x": 4, "n": 5}
    masked = {"***": 0, "***2": 1, "***3": 2, "of ***": 3, "of ***2": 4, "n": 5}
    assert mask_json(named) == mask_json(dict(reversed(named.items()))) == masked


WORKED = [
    ("/fog/probe/gc_ms/explore?os=Windows&token=1#top", "/fog/probe/gc_ms/explore"),
    ("/search?tab=2&q=ann", "/search?tab=2"),
    ("/people/ann%40example.org/edit", "/people/***/edit"),
    ("https://ann:secret@glam.example/a?b#c", "https://glam.example/a"),
    ("//ann@glam.example", "//glam.example"),
    ("glam.example:8080", "glam.example:8080"),
    ("mailto:ann@example.org?subject=hi", "***"),
    ("?token=1", "/"),
    ("/a?tab=ann@example.org", "/a?tab=***"),
    ("/100%/é", "/100%/é"),
]


@pytest.mark.parametrize(("address", "masked"), WORKED)
def test_addresses_of_pages(address: str, masked: str) -> None:
    assert Masking(frozenset({"tab"})).mask_address(address) == masked


TEXTS_WORKED = [
    ("ann@example.org", "***"),
    ("mail from ann.b+c@mail.example.org today", "mail from *** today"),
    ("@mozilla gc_ms@", "@mozilla gc_ms@"),
    ("50 % of 40", "50 % of 40"),
    ('"ann b"@example.org', '"ann b"***'),
    ("o'brien@localhost", "***"),
    ("ann@[192.0.2.1]", "***"),
    ("ann\uff20example.org", "***"),
]


@pytest.mark.parametrize(("text", "masked"), TEXTS_WORKED)
def test_texts(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize("text", ["a" * 200_000 + " @", "a@" * 60_000, "/@" * 60_000, "%25" * 60_000, "@" * 200_000])
def test_it_takes_linear_time(text: str) -> None:
    takes_linear_time(lambda length: mask_text(text[:length]), len(text))


def test_names_that_are_masked_alike_take_linear_time() -> None:
    names = [f"{number}@b" for number in range(6_000)] + [f"***{number}" for number in range(6_000)]
    takes_linear_time(lambda number: mask_json(dict.fromkeys(names[:number] + names[-number:])), 6_000)


def takes_linear_time(mask: Callable[[int], object], size: int) -> None:
    """Compare with an eighth of it: 64 times as long were quadratic."""

    def seconds(part: int) -> float:
        taken = []
        for _ in range(5):
            began = time.process_time()
            mask(part)
            taken.append(time.process_time() - began)
        return min(taken)

    most = 30 * seconds(size // 8) + 0.1  # 16 times were quadratic for all but the smallest
    assert seconds(size) < most


FREE: list[JsonObject] = [
    event(data={"page": f"/{ANN}?a=1", "referrer": f"https://{ANN}/x?y"}),
    event("probe_searched", data={"query": f"where is {ANN}", "results": 0}),
    event("probe_viewed", data={"found": True, "ping_type": ANN, "os": ANN, "aggregation_level": ANN}),
    event("control_changed", data={"control": ANN, "value": ANN}),
    event("link_followed", data={"tool": ANN, "url": f"https://x.example/?q={ANN}"}),
    event("x_mine", data={"deep": [{"who": ANN, ANN: f"\n{ANN}"}]}),
]


def records(masking: Masking, *events: JsonObject) -> list[Record]:
    reader = Reader(VisitorKeys(SECRET, 90), masking)
    judged = reader.read(Envelope([msgspec.Raw(json.dumps(one).encode()) for one in events]), "test", datetime.now(UTC))
    return [item for item in judged if isinstance(item, Record)]


def test_every_free_text_of_the_app_is_masked() -> None:
    reported = {name: kind.data_type() for name, kind in EVENT_TYPES.items() if issubclass(kind.data_type(), AppData)}
    assert {one["type"] for one in FREE} == {*reported, "x_mine"}
    for one, record in zip(FREE, records(Masking(), *FREE), strict=True):
        assert b"ann.b" not in bytes(record.data)
        if one["type"] != "x_mine":
            texts = {field.name for field in msgspec.structs.fields(reported[one["type"]]) if "str" in str(field.type)}
            assert {f"/data/{name}" for name in texts} == set(record.masked)


async def test_the_answer_says_what_was_masked(client: Client, database: Connection) -> None:
    plain = event(data={"page": "/fog/probe/gc_ms", "referrer": "glam.example"})
    catalogue = registered("gc_ms") | {"data": {"type": "labeled_counter", "labels": [ANN]}}
    answers = await post(client, *FREE, plain, catalogue)
    assert [item.get("masked") for item in answers] == [
        ["/0/data/page", "/0/data/referrer"],
        ["/1/data/query"],
        ["/2/data/ping_type", "/2/data/os", "/2/data/aggregation_level"],
        ["/3/data/control", "/3/data/value"],
        ["/4/data/tool", "/4/data/url"],
        ["/5/data"],
        None,
        None,
    ]
    stored = await database.fetch("SELECT data FROM event_log ORDER BY position")
    assert stored[0]["data"] == {"page": "/***", "referrer": "https://example.org/x"}
    assert stored[1]["data"] == {"query": "where is ***", "results": 0}
    assert stored[5]["data"] == {"deep": [{"who": "***", "***": "\n***"}]}
    assert (stored[6]["data"], stored[7]["data"]) == (plain["data"], catalogue["data"])


async def test_names_that_are_masked_are_known_again_in_any_order(client: Client, database: Connection) -> None:
    made = event("x_mine", data={"a@b.c": 1, "d@e.f": 2})
    [first] = await post(client, made)
    [again] = await post(client, made | {"data": {"d@e.f": 2, "a@b.c": 1}})
    assert (again["status"], again["position"]) == ("duplicate", first["position"])
    assert await database.fetchval("SELECT data FROM event_log") == {"***": 1, "***2": 2}
    other = await client.post("/v1/events", json=made | {"data": {"a@b.c": 1, "x@y.z": 2}})
    assert (await other.json())["events"][0]["status"] == "conflict"


@POSTED
@given(page=TEXTS.filter(lambda text: text and "\0" not in text), query=TEXTS.filter(lambda text: "\0" not in text))
async def test_what_comes_again_is_a_duplicate_whatever_is_kept_meanwhile(
    client: Client, keeping: Client, page: str, query: str
) -> None:
    made = [event(data={"page": page}), event("probe_searched", data={"query": query, "results": 1})]
    made = [one | {"event_id": str(uuid4())} for one in made]
    first = await post(client, *made)
    for other in (keeping, client):
        again = await post(other, *made)
        assert [(item["status"], item["position"]) for item in again] == [
            ("duplicate", item["position"]) for item in first
        ]


@pytest.fixture
async def keeping(start: Start, settings: ServerSettings) -> Client:
    """Start a server that keeps two parameters."""
    return await start(msgspec.structs.replace(settings, kept_parameters="tab,a"))


async def test_an_event_that_was_recorded_before_there_was_masking_is_a_duplicate(
    client: Client, database: Connection
) -> None:
    sent = event(data={"page": f"/{ANN}?tab=2"})
    [record] = records(Masking(), sent)
    await database.execute(
        "INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, source, data, digest)"
        " VALUES (nextval('event_position'), $1::uuid, 'page_viewed', now(), now(), 'tests', $2, $3)",
        sent["event_id"],
        sent["data"],
        record.digest,
    )
    [answer] = await post(client, sent)
    assert (answer["status"], answer["position"]) == ("duplicate", 1)
    conflict = await client.post("/v1/events", json=sent | {"data": {"page": f"/{ANN}?tab=3"}})
    assert (await conflict.json())["events"][0]["status"] == "conflict"


async def test_parameters_that_are_named_are_kept(keeping: Client, database: Connection) -> None:
    await post(keeping, event(data={"page": "/?token=1&tab=2&b=3&%61=4&tabs=5"}))
    assert await database.fetchval("SELECT data ->> 'page' FROM event_log") == "/?tab=2&%61=4"


@pytest.mark.parametrize("names", ["tab,", ",", "a=b", "a b", "a&b", "?a", "%61"])
def test_names_that_cannot_be_are_refused(names: str) -> None:
    environ = {"DATABASE_URL": "postgresql://x", "USAGE_SERVICE_VISITOR_SECRET": SECRET}
    with pytest.raises(SettingsError, match="USAGE_SERVICE_KEPT_PARAMETERS"):
        load_settings(ServerSettings, environ | {"USAGE_SERVICE_KEPT_PARAMETERS": names})
