"""Events as they are on the wire (`POST /v1/events`)."""

from __future__ import annotations

from collections.abc import Iterator

from usage_service.imports.lines import Format, Line, Options
from usage_service.imports.recognition import first_objects
from usage_service.imports.refusals import Refusal
from usage_service.imports.source import Source


def recognizes(head: bytes, _name: str) -> bool:
    """Return whether the first objects of a file are events."""
    return any(isinstance(value.get("type"), str) and "occurred_at" in value for value in first_objects(head))


def lines(source: Source, _options: Options) -> Iterator[Line]:
    """Read the events, one a value."""
    for number, value, refusal in source.values():
        if isinstance(value, dict):
            yield Line(number, [value])
        else:
            yield Line(number, [], refusal or Refusal(None, "must be a JSON object"))


FORMAT = Format("events", "events as they are posted, one on a line", recognizes, lines)
