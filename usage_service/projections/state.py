"""The state of the projections: how far each is, and one consistent view of their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool, at_one_instant

READ_SECONDS = 5.0
Projection = Literal["build_costs", "catalogue", "journeys", "popularity", "releases", "sessions", "timeseries"]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a projection could not fold: its position, and what the database said of it."""

    position: int
    sqlstate: str
    error: str
    set_aside_at: datetime


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A projection's progress: positions and seconds behind the end of the log, and what it does without.

    `stage` is `live`, or `rebuild` or `verify` for what is filled beside it. It stands still where `error` is not null:
    it cannot go on after the position `failed_after`. `set_aside` events could not be folded, and it went on without
    them; `dead_letters` are the first ten.
    """

    name: str
    stage: str
    version: int
    settings: dict[str, Any]
    position: int
    behind: int
    behind_seconds: float
    updated_at: datetime
    failed_at: datetime | None
    failed_after: int | None
    error: str | None
    set_aside: int
    dead_letters: list[DeadLetter]


class Revision(NamedTuple):
    """The rows of a projection: equal revisions of one projection have equal rows, and the log their events."""

    generation: UUID
    changed_at: int
    retention: int


class State(NamedTuple):
    """A live projection: every event up to `position` is folded, those up to `changed_at` changed its rows.

    `generation` is another one after each rebuild, and where an earlier event was folded late. `retention` is how often
    old events were dropped from the log or put back, from which some answers are read besides.
    """

    name: Projection
    position: int
    generation: UUID
    changed_at: int
    retention: int

    @property
    def revision(self) -> Revision:
        """Return the revision of its rows, another one whenever they change."""
        return Revision(self.generation, self.changed_at, self.retention)


class States(NamedTuple):
    """Several projections as of one instant."""

    all: tuple[State, ...]

    @property
    def position(self) -> int:
        """The position up to which each of them has folded every event."""
        return min(state.position for state in self.all)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """The revision of each, in the order of names."""
        return tuple(state.revision for state in self.all)

    def of(self, name: Projection) -> State:
        """Return the state of one of them."""
        return next(state for state in self.all if state.name == name)


@dataclass(frozen=True)
class Snapshot:
    """One consistent view of the rows of projections, and their states at that instant."""

    connection: Connection
    states: States


async def read_states(connection: Connection, *projections: Projection) -> States:
    """Return the states of live projections as the connection sees them, in one statement."""
    rows = await connection.fetch(query("projections", "states"), projections, timeout=READ_SECONDS)
    return States(tuple(State(*row) for row in rows))


async def projection_statuses(connection: Connection) -> list[Status]:
    """Return the status of every projection, those filled beside a live one included."""
    rows = await connection.fetch(query("projections", "statuses"))
    return [msgspec.convert(dict(row), Status) for row in rows]


@asynccontextmanager
async def snapshot(pool: Pool, *projections: Projection) -> AsyncIterator[Snapshot]:
    """Hold rows and states as of the same instant, whatever is folded or swapped meanwhile."""
    async with at_one_instant(pool) as connection:
        # Before the snapshot is taken, so that the tables are those that its states speak of.
        await connection.execute(query("projections", "hold"))
        yield Snapshot(connection, await read_states(connection, *projections))
