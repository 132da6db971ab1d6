"""Formats of files to import: a catalogue, traffic, releases, revisions of builds, or events as they are on the wire.

Event ids come from content, so that importing a file again records nothing twice: a line's id is made from the events
that it stands for, and from the number of equal lines before it (equal requests are separate events).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID, uuid5

import msgspec

from usage_service.imports import revisions
from usage_service.imports.product_details import MOST_BYTES, ReleasesOf, is_product_details, release_events
from usage_service.problems import field_error
from usage_service.shared.errors import UserError

JsonObject = dict[str, Any]
CATALOGUE_FIELDS = {"product", "probe", "type"}
IMPORTED = UUID("6d0a3b0f-5a0c-4b0e-9d7c-3f1e0c8b7a51")  # the namespace of these ids
TRAFFIC_FIELDS = {"occurred_at", "path", "status"}


class UnreadableFileError(UserError):
    """A file cannot be imported; the message says why and what can be."""


class Line(NamedTuple):
    """A line of a file: the events that it stands for, or its error."""

    number: int
    events: list[JsonObject]
    error: str | None = None


def read_lines(file: BinaryIO, path: Path, recorded_at: datetime, of: ReleasesOf) -> Iterator[Line]:
    """Read the lines of an unpacked file; a catalogue's events get the time `recorded_at`.

    Releases are `of` a product and channel; revisions of builds are of that product unless they name another.
    """
    name = path.name.removesuffix(".gz")
    text = (line.decode("utf-8", "replace") for line in file)
    if name.endswith(".csv"):
        found = _csv_lines(text, path, recorded_at, of)
    elif name.endswith(".json") and is_product_details(_head(file)):
        found = iter(_releases(file.read(MOST_BYTES), path, of))
    elif name.endswith((".ndjson", ".jsonl", ".json")):
        found = (_json_line(number, value, of) for number, value in _values(file, text, path))
    else:
        raise UnreadableFileError(f"{path}: the name must end in .csv, .ndjson or .jsonl, and .gz after it when packed")
    return _with_ids(found)


def _csv_lines(text: Iterator[str], path: Path, recorded_at: datetime, of: ReleasesOf) -> Iterator[Line]:
    rows = csv.DictReader(text, restkey="more than the first line names")
    fields = set(rows.fieldnames or [])
    if fields >= revisions.FIELDS:
        return (_revision(rows.line_num, row, of) for row in rows)
    if missing := CATALOGUE_FIELDS - fields:
        raise UnreadableFileError(
            f"{path}: the first line must name {', '.join(sorted(missing))}; a catalogue has "
            "product, probe, type and ping, revisions of builds have channel, build_id and revision"
        )
    occurred_at = recorded_at.astimezone(UTC).isoformat()
    return (Line(rows.line_num, [_registration(row, occurred_at)]) for row in rows)


def _registration(row: dict[str, str], occurred_at: str) -> JsonObject:
    return {
        "type": "probe_registered",
        "occurred_at": occurred_at,
        "product": row["product"],
        "probe": row["probe"],
        "data": {"type": row["type"], "ping": row.get("ping") or "metrics"},
    }


def _head(file: BinaryIO) -> bytes:
    head = file.read(4_096)
    file.seek(0)
    return head


def _releases(text: bytes, path: Path, of: ReleasesOf) -> list[Line]:
    try:
        events = release_events(text.decode("utf-8", "replace"), of)
    except ValueError as error:
        raise UnreadableFileError(f"{path}: as releases of product-details: {error}") from None
    return [Line(number, [event]) for number, event in enumerate(events, 1)]


def _values(file: BinaryIO, text: Iterator[str], path: Path) -> Iterator[tuple[int, object]]:
    """Return the values of a file of JSON, a line each, or the items of the array that it is."""
    if not _head(file).lstrip().startswith(b"["):
        return ((number, _json(line)) for number, line in enumerate(text, 1) if line.strip())
    whole = file.read(MOST_BYTES + 1)
    if len(whole) > MOST_BYTES:
        raise UnreadableFileError(
            f"{path}: an array has at most {MOST_BYTES} bytes; write a value on each line instead"
        )
    value = _json(whole.decode("utf-8", "replace"))
    return enumerate(value, 1) if isinstance(value, list) else iter([(1, value)])


def _json(text: str) -> object:
    """Return the value of a text, or the error."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        return error
    return value


def _json_line(number: int, value: object, of: ReleasesOf) -> Line:
    if isinstance(value, ValueError):
        return Line(number, [], f"not JSON: {value}")
    if not isinstance(value, dict):
        return Line(number, [], "must be a JSON object")
    if "type" in value:
        return Line(number, [value])
    if value.keys() >= TRAFFIC_FIELDS:
        return Line(number, _visit(value))
    if value.keys() >= revisions.FIELDS:
        return _revision(number, value, of)
    return Line(
        number,
        [],
        f"is neither an event (type), nor a page request ({', '.join(sorted(TRAFFIC_FIELDS))}),"
        f" nor the revision of a build ({', '.join(sorted(revisions.FIELDS))})",
    )


def _revision(number: int, row: JsonObject, of: ReleasesOf) -> Line:
    try:
        return Line(number, [revisions.revision_event(row, of.product)])
    except msgspec.ValidationError as error:
        wrong = field_error(error)
        return Line(number, [], f"{(wrong.pointer or '').lstrip('/')}: {wrong.detail}")


def _visit(request: JsonObject) -> list[JsonObject]:
    """Return the events of a page request: a page view and, if it names a probe, a probe view, not found after 404."""
    common = {name: request[name] for name in ("occurred_at", "visitor", "product") if request.get(name) is not None}
    bot = {"bot": True} if request.get("bot") else {}
    page = {"page": request["path"]} | bot
    if request.get("referrer_host"):
        page["referrer"] = request["referrer_host"]
    events = [common | {"type": "page_viewed", "data": page}]
    if request.get("probe"):
        viewed = {"found": request["status"] != 404} | bot
        events.append(common | {"type": "probe_viewed", "probe": request["probe"], "data": viewed})
    return events


def _with_ids(lines: Iterable[Line]) -> Iterator[Line]:
    seen: Counter[bytes] = Counter()
    for line in lines:
        digest = hashlib.blake2b(json.dumps(line.events, sort_keys=True).encode(), digest_size=16).digest()
        repeat = seen[digest]
        seen[digest] += 1
        for index, event in enumerate(line.events):
            event.setdefault("event_id", str(_event_id(digest, repeat, index)))
        yield line


def _event_id(digest: bytes, repeat: int, index: int) -> UUID:
    return uuid5(IMPORTED, f"{digest.hex()} {repeat} {index}")
