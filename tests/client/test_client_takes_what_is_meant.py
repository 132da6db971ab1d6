"""UsageClient: what can mean one thing only is taken; what is wrong is named, and raised if the client is strict."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import pytest_asyncio

from tests.support.building import served
from tests.support.fake_service import FakeService, fake_service
from tests.support.servers import Client
from usage_service.client import UsageClient, WrongEventError
from usage_service.client.outgoing import MOST_EVENT_BYTES

NOWHERE = "http://127.0.0.1:9"
A_UUID = UUID(int=7)


class Team(Enum):
    """The values of an app's own enumeration."""

    GLAM = "glam"


class Number(IntEnum):
    """The keys of an app's own enumeration."""

    SEVEN = 7


@pytest.fixture(scope="module")
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client:
        yield client


def sent(service: FakeService, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the event as it arrives, recorded by a client that raises for what is wrong."""
    with UsageClient(service.url, strict=True, linger_seconds=0) as client:
        event_id = client.record(kind, **fields)
        assert client.flush(20)
    return service.events[event_id]


@pytest.mark.parametrize("field", ["visitor", "product", "channel", "probe"])
@pytest.mark.parametrize(
    ("given", "meant"),
    [(Team.GLAM, "glam"), ("glam", "glam"), (np.str_("glam"), "glam")],
    ids=["enum", "text", "numpy"],
)
def test_a_text_is_taken_from_what_holds_one(service: FakeService, field: str, given: object, meant: str) -> None:
    assert sent(service, "x_note", {field: given})[field] == meant


@pytest.mark.parametrize("given", [7, Number.SEVEN, np.int64(7), A_UUID], ids=["int", "enum", "numpy", "uuid"])
def test_a_text_is_taken_from_a_key(service: FakeService, given: object) -> None:
    meant = str(A_UUID) if isinstance(given, UUID) else "7"
    event = sent(service, "probe_searched", {"visitor": given, "probe": given, "data": {"query": given, "results": 1}})
    assert (event["visitor"], event["probe"], event["data"]["query"]) == (meant, meant, meant)


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        ("probe_viewed", {"found": 1, "os": 10}, {"found": True, "os": "10"}),
        ("probe_viewed", {"found": 0, "bot": np.int8(1)}, {"found": False, "bot": True}),
        (
            "probe_viewed",
            {"found": True, "versions": ("120", 121.0, 122)},
            {"found": True, "versions": [120, 121, 122]},
        ),
        ("probe_searched", {"query": 404, "results": np.int64(3)}, {"query": "404", "results": 3}),
        ("page_viewed", {"page": "/", "referrer": None}, {"page": "/", "referrer": None}),
        ("control_changed", {"control": "os", "value": 7}, {"control": "os", "value": 7}),
        ("x_note", {"at": date(2026, 11, 20), "id": A_UUID}, {"at": "2026-11-20", "id": str(A_UUID)}),
        ("x_note", {"it": float("nan"), "far": float("inf")}, {"it": None, "far": None}),
    ],
)
def test_data_is_taken_as_its_fields_have_it(
    service: FakeService, kind: str, given: dict[str, object], meant: dict[str, object]
) -> None:
    assert sent(service, kind, {"product": "fog", "probe": "gc_ms", "data": given})["data"] == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (datetime(2026, 11, 20, 12), datetime(2026, 11, 20, 12).astimezone()),
        (datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=5))), datetime(2026, 11, 20, 7, tzinfo=UTC)),
        (date(2026, 11, 20), datetime(2026, 11, 20).astimezone()),
        ("2026-11-20T12:00:00Z", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20).astimezone()),
    ],
    ids=str,
)
def test_a_time_is_taken_from_what_names_one(service: FakeService, given: object, meant: datetime) -> None:
    event = sent(service, "x_note", {"occurred_at": given})
    assert datetime.fromisoformat(event["occurred_at"]) == meant


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("x_note", {"visitor": True}, "visitor is of type bool; give a text"),
    ("x_note", {"visitor": 7.5}, "visitor is of type float; give a text"),
    ("x_note", {"visitor": ""}, "/visitor: "),
    ("x_note", {"visitor": "v" * 257}, "/visitor: "),
    ("x_note", {"product": b"fog"}, "product is of type bytes; give a text"),
    ("x_note", {"product": "Fog!"}, "/product: "),
    ("x_note", {"occurred_at": 1_700_000_000}, "occurred_at is of type int; give a datetime"),
    ("x_note", {"occurred_at": "yesterday"}, "occurred_at is no time"),
    ("x_note", {"occurred_at": datetime.min}, "occurred_at is no time"),
    ("x_note", {"event_id": "one"}, "/event_id: "),
    ("x_note", {"data": ["a"]}, "data is of type list; give a dict"),
    ("x_note", {"data": {"it": "\ud800"}}, "data.it cannot be written as JSON: UnicodeEncodeError"),
    ("x_note", {"visitor": "\ud800"}, "visitor cannot be written as JSON: UnicodeEncodeError"),
    ("x_note", {"data": {"it": object()}}, "data.it cannot be written as JSON: TypeError"),
    ("x_note", {"data": {"it": "x" * MOST_EVENT_BYTES}}, f"bytes long; at most {MOST_EVENT_BYTES}"),
    ("x_note", {"data": {"it": "x" * 20_000}}, "/data: is 20"),
    ("X note", {}, "/type: must be one of page_viewed"),
    ("build_started", {}, "/type: build_started is written by the service"),
    ("page_viewed", {}, "/data: is missing"),
    ("page_viewed", {"data": {"page": "/", "pgae": "/"}}, "/data/pgae: is not known"),
    ("probe_viewed", {"product": "fog", "data": {"found": True}}, "/probe: is missing"),
    ("probe_viewed", {"product": "fog", "probe": "p", "data": {"found": "yes"}}, "/data/found: Expected `bool`"),
    ("probe_searched", {"data": {"query": True, "results": 1}}, "/data/query: Expected `str`"),
    ("probe_searched", {"data": {"query": "q", "results": float("nan")}}, "/data/results: Expected `int`"),
]


@pytest.mark.parametrize(("kind", "fields", "named"), WRONG)
def test_a_strict_client_raises_what_is_wrong(kind: str, fields: dict[str, Any], named: str) -> None:
    client = UsageClient(NOWHERE, strict=True)
    with pytest.raises(WrongEventError) as raised:
        client.record(kind, **fields)
    assert named in str(raised.value)
    assert str(raised.value).startswith(f"{kind}: ")
    stats = client.stats()
    assert (stats.recorded, stats.dropped, stats.dropped_wrong + stats.dropped_too_long) == (0, 1, 1)
    client.close(0)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("kind", "fields", "named"), WRONG)
async def test_another_client_raises_nothing_and_says_it_once(
    client: Client, caplog: pytest.LogCaptureFixture, kind: str, fields: dict[str, Any], named: str
) -> None:
    """What the client does not judge by itself is sent, and refused by the service: either way it is counted once."""
    with UsageClient(str(client.make_url("/")), linger_seconds=0.001) as usage:
        usage.record(kind, **fields)
        usage.record(kind, **fields)
        assert await usage.aflush(20)
        stats = usage.stats()
    assert (stats.sent, stats.dropped + stats.refused) == (0, 2)
    loud = [one.getMessage() for one in caplog.records if one.name == "usage_service.client"]
    assert len(loud) == 1, loud
    assert loud[0].startswith(("event_wrong", "event_refused"))


def test_each_type_has_its_own_line(caplog: pytest.LogCaptureFixture) -> None:
    client, wrong = UsageClient(NOWHERE), dict[str, Any](visitor=[])
    for kind in ("x_one", "x_two", "x_one", "x_two"):
        client.record(kind, **wrong)
    client.close(0)
    assert [one.levelno for one in caplog.records] == [logging.ERROR] * 2


def test_a_good_event_passes_a_strict_client_as_it_passes_the_service(service: FakeService) -> None:
    given = {"visitor": "v", "product": "fog", "channel": "nightly", "probe": "gc_ms", "event_id": uuid4()}
    event = sent(service, "probe_viewed", given | {"data": {"found": True}})
    assert event == {name: str(value) for name, value in given.items()} | {
        "type": "probe_viewed",
        "occurred_at": event["occurred_at"],
        "data": {"found": True},
    }


def test_it_needs_the_light_extra_only() -> None:
    """Recording, judging and sending: with nothing loaded that the server's extra brings."""
    script = f"""
import sys, json
from usage_service.client import UsageClient, WrongEventError
with UsageClient("{NOWHERE}", strict=True) as client:
    try:
        client.record("page_viewed")
    except WrongEventError:
        pass
    client.record("page_viewed", visitor=7, data={{"page": "/"}})
    client.close(0)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60))
    heavy = {"aiohttp", "asyncpg", "asyncio", "duckdb", "structlog", "rich", "numpy", "typer", "prometheus_client"}
    assert heavy.isdisjoint(loaded)
