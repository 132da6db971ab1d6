"""Events as they are on the wire (`POST /v1/events`)."""

from __future__ import annotations

from collections.abc import Iterator

from usage_service.imports.lines import Example, Format, Line, Options, object_lines
from usage_service.imports.recognition import first_objects
from usage_service.imports.source import Source


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are events."""
    return any(isinstance(value.get("type"), str) and "occurred_at" in value for value in first_objects(head))


def lines(source: Source, _options: Options) -> Iterator[Line]:
    """Read the events, one a value."""
    return object_lines(source.values(), lambda number, value: Line(number, [value]))


EXAMPLE = Example("""\
{"event_id": "6f0c1a52-5f5e-4d6f-9c3e-0d8a3a1b2c4d", "type": "page_viewed", "occurred_at": "2026-11-23T10:00:00Z", \
"data": {"page": "/fog/probe/gc_ms/explore"}}
{"type": "page_viewed", "occurred_at": "2026-11-23T10:00:00Z", "data": {"page": "/"}}
["page_viewed", "2026-11-23T10:00:00Z"]
""")
FORMAT = Format("events", "events as they are posted, one on a line", recognizes, lines, example=EXAMPLE)
