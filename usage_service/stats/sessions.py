"""Sessions: a visitor's events without a pause of 30 minutes."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

import asyncpg
import msgspec

from usage_service.cursors import InstantCursor, microseconds_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.windows import TimeRange

Bots = Literal["exclude", "include", "only"]
NameList = Literal["products", "probes", "controls", "tools_left"]
Role = Literal["starting_point", "endpoint", "in_between", "whole"]
SESSIONS_SAMPLED = 5_000
NAME_LISTS: tuple[NameList, ...] = get_args(NameList)


class Session(msgspec.Struct, frozen=True):
    """One session; `visitor` is a pseudonym, lists are sorted and without repeats.

    A list has a hundred names at most: which ones has nothing to do with their order in time. `beyond` says of each
    list that has others beside it about how many: an estimate, one in three of which is off by more than a tenth.

    `came_from` is the tool that the referrer stands for, else its host; `role` is the session's in the workflow:
    `starting_point` (came from nowhere, left for another tool), `endpoint` (came from a tool, left for none),
    `in_between` (both) or `whole` (neither).
    """

    session_id: str
    visitor: UUID
    started_at: datetime
    ended_at: datetime
    seconds: float
    events: int
    bot: bool
    products: list[str]
    probes: list[str]
    controls: list[str]
    tools_left: list[str]
    beyond: dict[NameList, int]
    first_page: str | None
    last_page: str | None
    referrer: str | None
    came_from: str | None
    role: Role


class SessionCursor(InstantCursor, frozen=True):
    """Cursor at the last session of a page. A session that a late event moves meanwhile may be listed twice, or not."""

    visitor: UUID


class SessionPage(NamedTuple):
    """Sessions of a page, the cursor of the next page if there is one, and the number of all sessions."""

    sessions: list[Session]
    following: SessionCursor | None
    total: int


async def list_sessions(
    connection: Connection,
    time_range: TimeRange,
    product: str | None,
    bots: Bots,
    limit: int,
    after: SessionCursor | None,
) -> SessionPage:
    """Return up to `limit` sessions that began in the time range and come after a cursor, latest first."""
    only = (*time_range, product, bots)
    place = (after.instant, after.visitor) if after else (None, None)
    rows = await connection.fetch(query("sessions", "listed"), *only, limit + 1, *place)
    total = await connection.fetchval(query("sessions", "counted"), *only)
    found = [_session(row) for row in rows[:limit]]
    last = found[-1] if len(rows) > limit else None
    return SessionPage(found, SessionCursor(microseconds_of(last.started_at), last.visitor) if last else None, total)


class TimelineEvent(msgspec.Struct, frozen=True):
    """An event of a session, as it is in the log."""

    position: int
    event_id: UUID
    type: str
    occurred_at: datetime
    product: str | None
    channel: str | None
    probe: str | None
    data: dict[str, Any]


async def find_session(connection: Connection, visitor: UUID, started_at: datetime) -> Session | None:
    """Return the session of a visitor that began at this instant, or None."""
    row = await connection.fetchrow(query("sessions", "one"), visitor, started_at)
    return _session(row) if row else None


async def find_typical(
    connection: Connection, since: datetime, until: datetime, product: str | None, bots: Bots
) -> Session | None:
    """Return the session of the time range that is nearest to their medians, or None when there was none."""
    filters = since, until, product, bots
    [sample] = await connection.fetch(query("sessions", "sample"), *filters, SESSIONS_SAMPLED)
    row = await connection.fetchrow(query("sessions", "typical"), *filters, sample["sample_key"])
    return await find_session(connection, *row) if row else None


class Timeline(NamedTuple):
    """Events of a session in the order in which they occurred, and how many were `dropped` from the log."""

    events: list[TimelineEvent]
    dropped: int


async def timeline(connection: Connection, session: Session, limit: int) -> Timeline:
    """Return the first `limit` events of a session."""
    rows = await connection.fetch(
        query("sessions", "timeline"), session.visitor, session.started_at, session.ended_at, limit
    )
    events = [TimelineEvent(**row) for row in rows if row["position"] is not None]
    return Timeline(events, len(rows) - len(events))


def _session(row: asyncpg.Record) -> Session:
    key = f"{row['visitor']} {row['started_at'].isoformat()}"
    fields = dict(row) | {name: sorted(row[name]) for name in NAME_LISTS}
    beyond = {name: fields.pop(f"{name}_beyond") for name in NAME_LISTS}
    return Session(
        session_id=hashlib.blake2b(key.encode(), digest_size=12).hexdigest(),
        seconds=(row["ended_at"] - row["started_at"]).total_seconds(),
        beyond={name: number for name, number in beyond.items() if number},
        **fields,
    )
