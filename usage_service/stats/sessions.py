"""Sessions: a visitor's events without a pause of 30 minutes."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

Bots = Literal["exclude", "include", "only"]
NameList = Literal["products", "probes", "controls", "tools_left"]
Role = Literal["starting_point", "endpoint", "in_between", "whole"]
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


async def list_sessions(
    connection: Connection, since: datetime, until: datetime, product: str | None, bots: Bots, limit: int
) -> tuple[list[Session], int]:
    """Return the latest `limit` sessions that began in the time range, and the number of all that did."""
    rows = await connection.fetch(query("sessions", "listed"), since, until, product, bots, limit)
    total = await connection.fetchval(query("sessions", "counted"), since, until, product, bots)
    return [_session(row) for row in rows], total


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


async def timeline(connection: Connection, session: Session, limit: int) -> list[TimelineEvent]:
    """Return the first `limit` events of a session, in the order in which they occurred."""
    rows = await connection.fetch(
        query("sessions", "timeline"), session.visitor, session.started_at, session.ended_at, limit
    )
    return [TimelineEvent(**row) for row in rows]


def _session(row: asyncpg.Record) -> Session:
    key = f"{row['visitor']} {row['started_at'].isoformat()}"
    fields = dict(row)
    beyond = {name: fields.pop(f"{name}_beyond") for name in NAME_LISTS}
    return Session(
        session_id=hashlib.blake2b(key.encode(), digest_size=12).hexdigest(),
        seconds=(row["ended_at"] - row["started_at"]).total_seconds(),
        beyond={name: number for name, number in beyond.items() if number},
        **fields,
    )
