"""A night as whoever asked for it sees it: how far it is, and what was not built."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from builder.connections import Connections
from builder.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool

POLL_SECONDS = 0.5
AWAY_SECONDS = 60.0  # after which a database that is away ends the following
CALL_SECONDS = 10.0

log = structlog.get_logger(__name__)


class NightState(msgspec.Struct, frozen=True):
    """A night in numbers. `bytes` were read of the `expected_bytes`; `to_build` probes are still to be built."""

    night_id: UUID
    state: str
    error: dict[str, str] | None
    product: str
    channel: str
    requested_at: datetime
    finished_at: datetime | None
    probes: int
    probes_left: int
    not_needed: int
    built: int
    without_data: int
    failed: int
    cancelled: int
    to_build: int
    jobs: int
    jobs_over: int
    bytes: int
    expected_bytes: int

    @property
    def is_over(self) -> bool:
        """Return whether all of its probes are built, failed, cancelled or left."""
        return self.state == "over"

    @property
    def done(self) -> int:
        """Return the number of probes about which nothing is to be done any more."""
        return self.probes - self.to_build


class NotBuilt(NamedTuple):
    """A probe that was not built: `left` for the bytes that it would add, or failed with an error."""

    probe: str
    outcome: str
    bytes: int | None
    code: str | None
    message: str | None


class ListItem(NamedTuple):
    """A probe of the list, and the requests that are expected of it a day; None where nobody said."""

    probe: str
    requests: float | None


class Nights:
    """The nights of a database, for whoever asks for one."""

    def __init__(self, pool: Pool, source: str) -> None:
        self._connections = Connections(pool, timedelta(seconds=CALL_SECONDS))
        self._source = source

    async def request(
        self, product: str, channel: str, probes: Sequence[ListItem], most_bytes: int | None
    ) -> tuple[UUID, bool]:
        """Ask for a night; return its id and whether it is new, not the one that is under way already."""
        names, requests = [item.probe for item in probes], [item.requests for item in probes]
        async with self._connections.one() as connection:
            row = await connection.fetchrow(
                query("nights", "request"), product, channel, names, requests, most_bytes, self._source, timeout=60
            )
        assert row is not None
        return row["night_id"], row["is_new"]

    async def kept_list(self, run: str, product: str) -> list[ListItem]:
        """Return a product's probes on the list that was kept for a run of the ETL; none where there is no list."""
        async with self._connections.one() as connection:
            rows = await connection.fetch(query("nights", "kept_list"), run, product, timeout=CALL_SECONDS)
        return [ListItem(row["probe"], row["requests"]) for row in rows]

    async def cancel(self, night_id: UUID) -> None:
        """Cancel a night, with its builds that nobody waits for."""
        async with self._connections.one() as connection:
            await connection.execute(query("nights", "cancel"), night_id, self._source, timeout=CALL_SECONDS)

    async def state(self, night_id: UUID) -> NightState:
        """Return how far a night is."""
        async with self._connections.one() as connection:
            row = await connection.fetchrow(query("nights", "night"), night_id, timeout=CALL_SECONDS)
        assert row is not None
        return msgspec.convert(dict(row), NightState)

    async def not_built(self, night_id: UUID) -> list[NotBuilt]:
        """Return the probes that failed, and those that were left."""
        async with self._connections.one() as connection:
            rows = await connection.fetch(query("nights", "not_built"), night_id, timeout=CALL_SECONDS)
        return [NotBuilt(*row) for row in rows]

    async def follow(self, night_id: UUID, show: Callable[[NightState], None]) -> NightState:
        """Show how far a night is until it is over, and return how it ended.

        Raise one of UNAVAILABLE when the database is away for longer than AWAY_SECONDS: the night goes on all the same.
        """
        heard = time.monotonic()
        while True:
            try:
                state = await self.state(night_id)
            except UNAVAILABLE as error:
                if time.monotonic() - heard > AWAY_SECONDS:
                    raise
                log.info("database_away", error=repr(error))
            else:
                heard = time.monotonic()
                show(state)
                if state.is_over:
                    return state
            await asyncio.sleep(POLL_SECONDS)
