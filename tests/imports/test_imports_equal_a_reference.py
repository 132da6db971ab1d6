"""What is recorded equals an independent reckoning: any split, repetition and order, any garbage between good lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.imports_reference import File, View, reckon
from tests.support.servers import JsonObject
from usage_service.imports.lines import Options
from usage_service.imports.reading import prepared_lines, recognize
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source
from usage_service.imports.state import open_state

FORMATS = {"events": "events", "usage": "glam-usage", "table": "glam-usage"}
COLUMNS = ["id", "action_type", "timestamp", "context", "tracking_id", "probe_name", "product", "channel"]
START = datetime(2026, 8, 26, 10, tzinfo=UTC)
# What no format takes for a record, and what some do not.
VALID = {"type": "probe_viewed", "occurred_at": "2026-08-26T10:00:00Z", "product": "fog", "probe": "gc_ms"}
WRONG: list[JsonObject] = [
    {"type": "probe_viewed"},
    VALID | {"data": {"found": "false"}},
    VALID | {"data": {"found": True}, "occurred_at": "2026-08-26T10:00:00"},
    VALID | {"data": {"found": True}, "product": "FOG"},
    VALID | {"data": {"found": True}, "probe": "\ud800"},
    {"timestamp": "2026-08-26T10:00:00Z", "probe_name": "gc_ms", "product": "fog", "status": 200},
    {"timestamp": "yesterday", "probe_name": "gc_ms", "product": "fog"},
    {"timestamp": "2026-08-26T10:00:00Z", "probe_name": 7, "product": "fog"},
]
GARBAGE = [
    *(json.dumps(value).encode() for value in WRONG),
    b"",
    b"nonsense",
    b"null",
    b"[]",
    b'"a text"',
    b"{",
    b"[" * 5_000,
    b"\xc3\x28\x00",
    b'"',
    b'1,PROBE_SEARCH,2026-08-26 10:00:00+00,"{""product"": ""fog""',
    b"1,PROBE_SEARCH,2026-08-26 10:00:00+00,,,gc_ms,fog",
    b"1,PROBE_SEARCH,2026-08-26 10:00:00+00,,,gc_ms,fog,nightly,9",
    b"1,PROBE_SEARCH,2026-08-26 10:00:00,,,gc_ms,fog,nightly",
    b"1,PROBE_SEARCH,2026-08-26 10:00:00+00,{,,gc_ms,fog,nightly",
    b"1,PAGE_VIEW,2026-08-26 10:00:00+00,,,gc_ms,fog,nightly",
]
VIEWS = st.builds(
    View,
    st.integers(0, 3).map(lambda seconds: START + timedelta(seconds=seconds)),
    st.sampled_from(["fog", "fenix"]),
    st.sampled_from([None, "nightly", "beta"]),
    st.sampled_from(["gc_ms", "Slow.ms"]),
    st.sampled_from([None, "a browser", 'Zoë, "2"; 3']),
    st.booleans(),
)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=7, minutes=30))])
KINDS = st.sampled_from(sorted(FORMATS))


class Layout(NamedTuple):
    """Layout of the lines of a file."""

    end: bytes
    begin: bytes
    is_packed: bool


LAYOUTS = st.builds(
    Layout, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.sampled_from([b"", b"\xef\xbb\xbf"]), st.booleans()
)


def line(kind: str, view: View, zone: timezone) -> bytes:
    """Write a view as a line of a file."""
    at = view.at.astimezone(zone).isoformat()
    data = {"found": view.found}
    if kind == "events":
        given: JsonObject = {
            "type": "probe_viewed",
            "occurred_at": at,
            "visitor": view.visitor,
            "product": view.product,
        }
        given |= {"channel": view.channel, "probe": view.probe, "data": data}
        return json.dumps({name: value for name, value in given.items() if value is not None}).encode()
    record: JsonObject = {"timestamp": at, "probe_name": view.probe, "product": view.product, "channel": view.channel}
    record |= {"tracking_id": view.visitor, "action_type": "PROBE_SEARCH", "context": data}
    if kind == "usage":
        return json.dumps(record, ensure_ascii=False).encode()
    cells = record | {"context": json.dumps(data), "id": 1}
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cells[name] for name in COLUMNS])
    return text.getvalue().encode()


@st.composite
def files(draw: st.DrawFn, views: Sequence[View], host: str) -> File:
    """Draw a file of these views, in any order, in any zones, with garbage between them."""
    kind = draw(KINDS)
    lines = [line(kind, view, draw(ZONES)) for view in views] + draw(st.lists(st.sampled_from(GARBAGE), max_size=4))
    lines = draw(st.permutations(lines))
    if kind != "table":  # what begins as an array is read as one
        lines.sort(key=lambda text: text.startswith(b"["))
    return File(host, kind, [",".join(COLUMNS).encode(), *lines] if kind == "table" else lines)


def recorded(file: File, layout: Layout, folder: str) -> dict[str, tuple[str, View]]:
    """Return the views that an import of a file posts, by the ids of their events."""
    content = layout.begin + layout.end.join(file.lines) + layout.end
    path = Path(folder) / "a file"
    path.write_bytes(gzip.compress(content, 1) if layout.is_packed else content)
    options = Options(host=file.host)
    found = {}
    # A file without one good line may not be read at all.
    with suppress(UnreadableFileError), open_source(path) as source, open_state(None) as state:
        for one in prepared_lines(source, recognize(source, FORMATS[file.kind]), options, state):
            for event in one.events:
                value = msgspec.json.decode(event.body)
                found[value["event_id"]] = file.host, view_of(value)
    return found


def view_of(event: JsonObject) -> View:
    assert event["type"] == "probe_viewed"
    data = event["data"]
    at = datetime.fromisoformat(str(event["occurred_at"])).astimezone(UTC)
    return View(at, event["product"], event.get("channel"), event["probe"], event.get("visitor"), data["found"])


@st.composite
def any_files(draw: st.DrawFn) -> list[File]:
    """Draw files that share hosts and views, some of them more than once."""
    found = [
        draw(files(draw(st.lists(VIEWS, max_size=6)), draw(st.sampled_from(["one host", "another"]))))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return draw(st.permutations(found + draw(st.lists(st.sampled_from(found), max_size=1))))


@settings(max_examples=30)
@given(any_files(), st.data())
def test_any_files_are_recorded_as_reckoned(given: list[File], data: st.DataObject) -> None:
    log: dict[str, tuple[str, View]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for file in given:
            log |= recorded(file, data.draw(LAYOUTS), folder)
    assert Counter(log.values()) == reckon(given)


@settings(max_examples=15)
@given(st.lists(VIEWS, min_size=1, max_size=8), st.data())
def test_a_file_may_be_split_between_different_lines(views: list[View], data: st.DataObject) -> None:
    whole = File("one host", "events", [line("events", view, UTC) for view in views])
    place = {view: data.draw(st.integers(0, 2)) for view in views}
    parts = [data.draw(files([view for view in views if place[view] == part], "one host")) for part in range(3)]
    log: dict[str, tuple[str, View]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for file in data.draw(st.permutations([*parts, whole])):
            log |= recorded(file, data.draw(LAYOUTS), folder)
    assert Counter(log.values()) == Counter(("one host", view) for view in views)
