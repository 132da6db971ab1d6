"""Lines of a file with their events ready to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from usage_service.imports.batches import MOST_BYTES, PreparedLine
from usage_service.imports.events_to_send import EventToSend, Preparation, RefusedEventError
from usage_service.imports.formats import FORMATS, format_of
from usage_service.imports.lines import Format, JsonObject, Line, Options
from usage_service.imports.recognition import container_of
from usage_service.imports.refusals import Refusal, UnreadableFileError
from usage_service.imports.source import Kept, Source
from usage_service.imports.state import ImportState, open_state
from usage_service.log.errors import LogReadError
from usage_service.log.exports import PARQUET, is_export, parquet_lines

EXPORT = Format("export", "an exported log", lambda head, _name: is_export(head), lambda _source, _options: iter(()))
BY_NAME = {one.name: one for one in (EXPORT, *FORMATS)}


def format_named(name: str) -> Format:
    """Return the format with a name. Raise UnreadableFileError when there is none."""
    if name not in BY_NAME:
        raise UnreadableFileError(f"--format: there is no {name}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def recognize(source: Source, format_name: str | None) -> Format:
    """Return the format that is named, else that which the content tells. Raise UnreadableFileError for none."""
    if what := container_of(source.head):
        raise UnreadableFileError(f"{source.name}: {what}")
    if format_name is not None and (source.head or not source.fault):
        return format_named(format_name)
    return EXPORT if is_export(source.head) else format_of(source.head, source.name, source.fault)


def prepared_lines(source: Source, chosen: Format, options: Options, state: ImportState) -> Iterator[PreparedLine]:
    """Read the lines of a file, with their events ready to be sent."""
    if chosen is EXPORT:
        yield from _parquet_lines(source) if source.head.startswith(PARQUET) else _exported_lines(source)
        return
    preparation = Preparation(options.host, options.as_of or datetime.now(UTC))
    for line in chosen.lines(source, options):
        text, position = source.current, source.position
        if line.refusal or not line.events:
            yield PreparedLine(
                line.number,
                position,
                refusal=line.refusal,
                left_out=_left_out(line),
                unmatched=line.unmatched,
                text=text,
            )
            continue
        try:
            events = preparation.prepare(line.events)
            _check_sizes(events)
        except RefusedEventError as error:
            yield PreparedLine(line.number, position, refusal=error.refusal, text=text)
        else:
            yield PreparedLine(line.number, position, *_counted(events, state), text=text)


def read_events(source: Source, options: Options) -> Iterator[tuple[int, list[JsonObject] | Refusal]]:
    """Read the events of each line as they would be sent, ids and all, or its refusal."""
    with open_state(None) as state:
        for line in prepared_lines(source, recognize(source, None), options, state):
            yield line.number, line.refusal or [msgspec.json.decode(event.body) for event in line.events]


def _left_out(line: Line) -> str | None:
    return None if line.refusal else line.left_out or "tells of no event"


def _counted(events: list[EventToSend], state: ImportState) -> tuple[list[EventToSend], list[tuple[bytes, int]]]:
    """Return the events of a line with their ids, and how often each of them was read by now."""
    seen: list[tuple[bytes, int]] = []
    for index, event in enumerate(events):
        if event.key is not None:
            repeat = state.count(event.key)
            seen.append((event.key, repeat + 1))
            events[index] = event.numbered(event.key, repeat)
    return events, seen


def _check_sizes(events: list[EventToSend]) -> None:
    largest = max(len(event.body) for event in events)
    if largest > MOST_BYTES:
        raise RefusedEventError(Refusal(None, f"is an event of {largest:,} bytes; a request takes {MOST_BYTES:,}"))


def _exported_lines(source: Source) -> Iterator[PreparedLine]:
    for number, text, refusal in source.lines():
        if text is None:
            yield PreparedLine(number, number, refusal=refusal, text=source.current)
        elif text.strip():
            yield _exported(number, text.encode(), source.current)


def _parquet_lines(source: Source) -> Iterator[PreparedLine]:
    number = 0
    try:
        for number, line in enumerate(parquet_lines(source.raw, source.name), 1):
            yield _exported(number, line, None)
    except LogReadError as error:
        raise UnreadableFileError(str(error)) from None
    except (pa.ArrowException, OSError) as error:
        if not number:
            raise UnreadableFileError(f"{source.name}: is damaged: {error}") from None
        yield PreparedLine(number + 1, number + 1, refusal=Refusal(None, f"the file is damaged: {error}"))


def _exported(number: int, line: bytes, text: Kept) -> PreparedLine:
    if len(line) > MOST_BYTES:
        refusal = Refusal(None, f"is an event of {len(line):,} bytes; a request takes {MOST_BYTES:,}")
        return PreparedLine(number, number, refusal=refusal, text=text)
    return PreparedLine(number, number, [EventToSend(line, "")], text=text)
