"""What is stored stays as it was; events of older schema versions are read as those of the current one."""

from __future__ import annotations

from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import msgspec
import pytest

from tests.support.servers import Client, event, post
from usage_service import events
from usage_service.event_reference import event_schemas, events_page
from usage_service.events import EVENT_TYPES, Data, Event, PageViewedData
from usage_service.log import stored_events
from usage_service.log.stored_events import JsonObject, StoredEvent

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


class ZoomedData(Data, frozen=True, kw_only=True):
    level: float
    axis: str


class Zoomed(Event, frozen=True, kw_only=True, tag="zoomed"):
    schema_version: ClassVar[int] = 3
    data: ZoomedData


def zoomed(version: int, data: JsonObject) -> StoredEvent:
    now = datetime.now(UTC)
    raw = msgspec.Raw(msgspec.json.encode(data))
    return StoredEvent(1, uuid4(), "zoomed", version, now, now, None, None, None, None, "app", raw, uuid4())


@pytest.fixture
def three_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a type that had no axis in version 1, and percents for levels up to version 2."""
    monkeypatch.setitem(EVENT_TYPES, "zoomed", Zoomed)
    monkeypatch.setitem(stored_events.UPCASTS, ("zoomed", 1), lambda data: data | {"axis": "x"})
    monkeypatch.setitem(stored_events.UPCASTS, ("zoomed", 2), lambda data: data | {"level": data["level"] / 100})


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("version", "data"),
    [(1, {"level": 150}), (2, {"level": 150, "axis": "x"}), (3, {"level": 1.5, "axis": "x"})],
)
def test_each_version_reads_the_same(version: int, data: JsonObject) -> None:
    assert zoomed(version, data).typed_data() == ZoomedData(level=1.5, axis="x")


def test_every_older_version_has_an_upcast() -> None:
    for name, kind in EVENT_TYPES.items():
        for version in range(1, kind.schema_version):
            assert (name, version) in stored_events.UPCASTS


async def test_what_was_posted_is_read_typed(client: Client) -> None:
    await post(client, event(data={"page": "/p", "bot": True}), event("x_mine", data={"free": [1]}))
    lines = (await (await client.get("/v1/events")).read()).splitlines()
    page, own = (msgspec.json.decode(line, type=StoredEvent) for line in lines)
    assert page.typed_data() == PageViewedData(page="/p", bot=True)
    assert own.typed_data() == {"free": [1]}


def test_the_reference_page_is_that_of_the_types() -> None:
    assert PAGE.read_text("utf-8") == events_page(), "run: usage-service reference > docs/events.md"


def test_every_type_has_a_schema_a_docstring_and_a_place_on_the_page() -> None:
    schemas, components = event_schemas()
    assert set(schemas) == {*EVENT_TYPES, "x_..."}
    for name, kind in EVENT_TYPES.items():
        assert kind.__doc__
        assert f"## {name}\n\n{cleandoc(components[kind.__name__]['description'])}" in events_page()
    assert events.OWN_TYPES.isdisjoint(EVENT_TYPES)
