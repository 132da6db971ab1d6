"""Restoring of exported events at their positions: each is judged by its own schema version, and stored as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from usage_service.event_decoding import LARGEST_SKEW, UnusableEventError, check_characters, check_depth, unknown_type
from usage_service.events import (
    EARLIEST,
    EVENT_TYPES,
    OWN_TYPES,
    BuildEvent,
    Event,
    ExtensionEvent,
    OwnEvent,
    VisitorErased,
)
from usage_service.ingest.appending import REFUSED
from usage_service.log.stored_events import JsonObject, StoredEvent
from usage_service.problems import NOT_JSON, FieldError, field_error, not_json
from usage_service.queries import query
from usage_service.shared.postgres import Connection

RESTORE_SECONDS = 20.0
OTHER_EVENTS = frozenset({"UB002", "UB007", asyncpg.UniqueViolationError.sqlstate})
MOST_SOURCE_CHARACTERS = 200

_stored = msgspec.json.Decoder(StoredEvent)


Item = TypeVar("Item")


class OtherEventsError(Exception):
    """The log holds other events at these positions; nothing was restored."""


class RefusedLine(NamedTuple):
    """A line that was not restored, by its number from 0, and what is wrong with it."""

    number: int
    error: FieldError


class Restored(NamedTuple):
    """What became of lines: how many events are new, which lines are refused, and the last position of the others."""

    events: int
    refused: list[RefusedLine]
    position: int | None


async def restore_lines(connection: Connection, lines: Sequence[bytes]) -> Restored:
    """Restore the events of an export's lines, but for those that are refused. Raise OtherEventsError."""
    [(log_end, largest_gap)] = await connection.fetch(query("log", "restorable"))
    judge = _Judge(log_end, largest_gap)
    accepted, refused = _sift(enumerate(lines), judge.judge)
    passed = [event.position for _, event in accepted if event.position <= log_end]
    if passed:
        judge.skipped.update(row[0] for row in await connection.fetch(query("log", "skipped"), passed))
        accepted, refused_later = _sift(accepted, judge.check_passed)
        refused += refused_later
    restored = await _restore(connection, accepted, refused) if accepted else 0
    numbers = {line.number for line in refused}
    last = max((event.position for number, event in accepted if number not in numbers), default=None)
    return Restored(restored, sorted(refused, key=lambda line: line.number), last)


def _sift(
    numbered: Iterable[tuple[int, Item]], judge: Callable[[Item], StoredEvent]
) -> tuple[list[tuple[int, StoredEvent]], list[RefusedLine]]:
    """Judge numbered items, and return the events of those that are accepted, and the others."""
    accepted: list[tuple[int, StoredEvent]] = []
    refused: list[RefusedLine] = []
    for number, item in numbered:
        try:
            accepted.append((number, judge(item)))
        except UnusableEventError as error:
            refused.append(RefusedLine(number, error.error))
    return accepted, refused


async def _restore(
    connection: Connection, numbered: Sequence[tuple[int, StoredEvent]], refused: list[RefusedLine]
) -> int:
    """Restore events; where the database refuses them, each half, so that only the wrong one is refused."""
    try:
        return await restore(connection, [event for _, event in numbered])
    except REFUSED as error:
        if len(numbered) == 1:
            refused.append(RefusedLine(numbered[0][0], FieldError(detail=f"the database refuses it: {error.args[0]}")))
            return 0
    half = len(numbered) // 2
    before = await _restore(connection, numbered[:half], refused)
    return before + await _restore(connection, numbered[half:], refused)


async def restore(connection: Connection, events: Sequence[StoredEvent]) -> int:
    """Put events back at their positions, and return how many were not there yet. Raise OtherEventsError."""
    columns = zip(*(msgspec.structs.astuple(event)[:-1] for event in events), strict=True)
    try:
        restored: int = await connection.fetchval(
            query("log", "restore"), *(list(column) for column in columns), timeout=RESTORE_SECONDS
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate in OTHER_EVENTS:
            raise OtherEventsError(str(error)) from None
        raise
    return restored


class _Judge:
    """Judges the lines of an export one after the other: what the log has already is compared by the database."""

    def __init__(self, log_end: int, largest_gap: int) -> None:
        self._log_end = log_end
        self._largest_gap = largest_gap
        self._last = 0
        self._ids: set[UUID] = set()
        self._now = datetime.now(UTC)
        self.skipped: set[int] = set()
        """The positions before the log's end at which it has, and had, no event."""

    def judge(self, line: bytes) -> StoredEvent:
        """Return the event of a line. Raise UnusableEventError for one that cannot be restored after those before."""
        event = _decode(line)
        if event.position <= self._last:
            raise UnusableEventError("/position", f"must be above {self._last}, that of an event before")
        if event.event_id in self._ids:
            raise UnusableEventError("/event_id", "is that of an event before")
        if event.position > self._log_end:
            self._check_gap(event.position)
            self._check(event)
        self._last = event.position
        self._ids.add(event.event_id)
        return event

    def check_passed(self, event: StoredEvent) -> StoredEvent:
        """Return an event that may be in the log. Raise UnusableEventError where its position was skipped."""
        if event.position in self.skipped:
            self._check(event)
            detail = f"is before {self._log_end}, the log's end, where readers do not look again: it cannot be filled"
            raise UnusableEventError("/position", detail)
        return event

    def _check(self, event: StoredEvent) -> None:
        _check_times(event, self._now)
        _check_content(event)

    def _check_gap(self, position: int) -> None:
        before = max(self._last, self._log_end)
        if position - before > self._largest_gap:
            detail = f"is more than {self._largest_gap} after {before}, the one before: restore what is between first"
            raise UnusableEventError("/position", detail)


def _decode(line: bytes) -> StoredEvent:
    try:
        return _stored.decode(line)
    except msgspec.ValidationError as error:
        raise _unusable(field_error(error)) from None
    except NOT_JSON as error:
        raise UnusableEventError("", f"is {not_json(error)}") from None


def _check_times(event: StoredEvent, now: datetime) -> None:
    """Check that times are within what recording lets through, with as much again for clocks that differ."""
    if not EARLIEST <= event.recorded_at <= now + LARGEST_SKEW:
        raise UnusableEventError("/recorded_at", f"must be between {EARLIEST:%Y-%m-%d} and now")
    if not EARLIEST <= event.occurred_at <= event.recorded_at + 2 * LARGEST_SKEW:
        raise UnusableEventError("/occurred_at", f"must be between {EARLIEST:%Y-%m-%d} and two days after recorded_at")


def _check_content(event: StoredEvent) -> None:
    if not 1 <= len(event.source) <= MOST_SOURCE_CHARACTERS or "\x00" in event.source:
        raise UnusableEventError("/source", f"must be 1 to {MOST_SOURCE_CHARACTERS} characters, none of them NUL")
    kind = _kind_of(event.type)
    if not 1 <= event.schema_version <= kind.schema_version:
        raise UnusableEventError("/schema_version", f"must be 1 to {kind.schema_version} for {event.type}")
    data = _current_data(event)
    check_depth(data)
    check_characters(data)
    fields: JsonObject = {name: getattr(event, name) for name in ("event_id", "type", "occurred_at")}
    fields |= {"product": event.product, "channel": event.channel, "probe": event.probe, "data": data}
    if kind is VisitorErased:
        fields["visitor"] = "whoever it was"  # asked for when it is posted, never kept
    try:
        msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise _unusable(field_error(error, kind)) from None


def _kind_of(name: str) -> type[Event | ExtensionEvent | OwnEvent | BuildEvent]:
    if name in EVENT_TYPES:
        return EVENT_TYPES[name]
    if name in OWN_TYPES:
        return BuildEvent if name.startswith("build_") else OwnEvent
    if name.startswith("x_"):
        return ExtensionEvent
    raise UnusableEventError("/type", unknown_type(name))


def _current_data(event: StoredEvent) -> JsonObject:
    """Return the event's own fields, of the current schema version."""
    try:
        return event.current_data()
    except msgspec.ValidationError as error:
        raise UnusableEventError("/data", f"is not an object: {error}") from None
    except NOT_JSON as error:
        raise UnusableEventError("/data", f"is {not_json(error)}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of an upcast
        raise UnusableEventError("/data", f"is not that of version {event.schema_version}: {error!r}") from None


def _unusable(error: FieldError) -> UnusableEventError:
    return UnusableEventError(error.pointer or "", error.detail)
