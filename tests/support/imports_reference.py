"""Reckoning of what an import records, in plain Python, from the promises alone: it shares no code with the import.

A line is a good record or it is refused. Two records are equal when they say the same, the instant in whatever zone.
Of equal records of a host as many are recorded as the single file that has most of them has.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from tests.support.servers import JsonObject

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
VISITOR = re.compile(r"(?s).{1,256}")
PROBE = re.compile(r"[A-Za-z0-9_.-]{1,200}")
EVENT_FIELDS = {"type", "occurred_at", "visitor", "product", "channel", "probe", "data"}
RECORD_FIELDS = {"timestamp", "probe_name", "action_type", "context", "product", "channel", "tracking_id", "id"}


class View(NamedTuple):
    """A view of a probe, as an import records it."""

    at: datetime
    product: str
    channel: str | None
    probe: str
    visitor: str | None
    found: bool


class File(NamedTuple):
    """A file of a host: its format, and its lines, of which a table's first names the columns."""

    host: str
    kind: str
    lines: list[bytes]


def reckon(files: Iterable[File]) -> Counter[tuple[str, View]]:
    """Return how often each view of each host is recorded, whatever the order of the files and how often they come."""
    recorded: Counter[tuple[str, View]] = Counter()
    for file in files:
        recorded |= Counter((file.host, view) for view in _views(file) if view)
    return recorded


def _views(file: File) -> list[View | None]:
    if file.kind == "events":
        return [_of_event(_json(line)) for line in file.lines]
    if file.kind == "usage":
        return [_of_record(_json(line)) for line in file.lines]
    names, *rows = [_cells(line) for line in file.lines]
    assert names is not None
    return [_of_row(dict(zip(names, row, strict=True))) if row and len(row) == len(names) else None for row in rows]


def _json(line: bytes) -> object:
    try:
        text = line.decode()
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be written
    except (ValueError, RecursionError):
        return None
    return value


def _cells(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode()], strict=True), None)
    except (csv.Error, UnicodeDecodeError):
        return None


def _of_event(value: object) -> View | None:
    if not isinstance(value, dict) or value.keys() - EVENT_FIELDS or value.get("type") != "probe_viewed":
        return None
    data = value.get("data")
    if not isinstance(data, dict) or data.keys() != {"found"} or not isinstance(data["found"], bool):
        return None
    return _view(value.get("occurred_at"), value, value.get("probe"), value.get("visitor"), data["found"])


def _of_record(value: object) -> View | None:
    if not isinstance(value, dict) or value.keys() - RECORD_FIELDS:
        return None
    context = value.get("context") or {}
    if not isinstance(context, dict) or not isinstance(context.get("found", True), bool):
        return None
    if value.get("action_type", "PROBE_SEARCH") != "PROBE_SEARCH":
        return None
    found = context.get("found", True)
    return _view(value.get("timestamp"), value, value.get("probe_name"), value.get("tracking_id") or None, found)


def _of_row(row: dict[str, str]) -> View | None:
    said: JsonObject = {name: cell for name, cell in row.items() if cell}
    if "context" in said:
        said["context"] = _json(row["context"].encode())
        if not isinstance(said["context"], dict):
            return None
    return _of_record(said)


def _view(at: object, named: JsonObject, probe: object, visitor: object, found: bool) -> View | None:
    instant = _instant(at)
    product, channel = _matching(NAME, named.get("product")), _matching(NAME, named.get("channel"))
    name, who = _matching(PROBE, probe), _matching(VISITOR, visitor)
    is_whole = (channel or named.get("channel")) == channel and (who or visitor) == who
    return View(instant, product, channel, name, who, found) if instant and product and name and is_whole else None


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _instant(text: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return instant.astimezone(UTC) if isinstance(text, str) and instant.tzinfo else None
