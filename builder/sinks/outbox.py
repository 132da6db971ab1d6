"""The outbox of a sink: which rows of which channel it lacks, as the functions of `schema.sql` keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from builder.fencing import fence
from builder.queries import query
from usage_service.shared.postgres import Connection, Pool, borrow

QUICK_SECONDS = 5.0  # for a connection, and for the answer to what is quick
PLAN_SECONDS = 25.0
READ_SECONDS = 600.0  # for all rows of a batch
ROWS_AT_ONCE = 100
ROWS_A_GROUP, BYTES_A_GROUP = 2_000, 8 * 2**20
TEXTS = ("histogram", "non_norm_histogram", "metric_key")


class BatchLimits(NamedTuple):
    """The limits of a batch: a single build may be above those of rows and bytes."""

    builds: int = 500
    rows: int = 200_000
    bytes: int = 256 * 2**20


BATCH_LIMITS = BatchLimits()


class Claim(msgspec.Struct, frozen=True):
    """A channel of a sink that this worker holds, at this attempt, after so many failures in a row."""

    sink: str
    product: str
    channel: str
    attempt: int
    series: UUID
    failures: int

    @property
    def held(self) -> tuple[str, str, str, int]:
        """Return the channel and the attempt, as the functions of the schema take them."""
        return self.sink, self.product, self.channel, self.attempt


class Batch(NamedTuple):
    """The builds of a channel whose rows go to the sink together. Another attempt at it has the same id.

    `rows` is how many they have now; `is_begun` whether an attempt before this one may have begun jobs.
    """

    batch_id: UUID
    product: str
    channel: str
    builds: tuple[UUID, ...]
    rows: int
    is_begun: bool

    @property
    def of_channel(self) -> tuple[str, str]:
        """Return the product and the channel."""
        return self.product, self.channel


Records = list[Mapping[str, Any]]


class Outbox:
    """The outbox of one sink, for one worker. Calls for a claim that is over raise LeaseLostError."""

    def __init__(
        self, pool: Pool, sink: str, worker: str, lease: timedelta, limits: BatchLimits = BATCH_LIMITS
    ) -> None:
        self._pool = pool
        self._sink = sink
        self._worker = worker
        self._lease = lease
        self._limits = limits

    async def claim(self, products: Sequence[str], channels: Sequence[str]) -> Claim | None:
        """Return a channel that the sink lacks rows of, which nobody else delivers; None when there is none."""
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            values = self._sink, products, channels, self._worker, self._lease
            row = await connection.fetchrow(query("sinks", "claim"), *values)
        return msgspec.convert(dict(row), Claim) if row else None

    async def renew(self, claim: Claim) -> None:
        """Renew the lease."""
        await self._report("renew", claim, self._lease)

    async def plan(self, claim: Claim) -> Batch:
        """Return the batch to deliver: the one that was begun, else the builds that are next."""
        with fence():
            async with borrow(self._pool, PLAN_SECONDS) as connection:
                row = await connection.fetchrow(query("sinks", "plan"), *claim.held, *self._limits)
        assert row is not None
        batch_id = uuid5(claim.series, ",".join(map(str, row["builds"])))
        return Batch(batch_id, claim.product, claim.channel, tuple(row["builds"]), row["rows"], row["is_begun"])

    @asynccontextmanager
    async def rows(self, batch: Batch) -> AsyncIterator[AsyncIterator[Records]]:
        """Yield the batch's rows as of one moment, in groups that are bounded in rows and in bytes."""
        async with borrow(self._pool, READ_SECONDS) as connection, connection.transaction(readonly=True):
            yield _groups(connection, batch)

    async def complete(self, claim: Claim, pause: timedelta) -> None:
        """End the batch, whose rows the sink has; the next one may wait for `pause`, to be more builds together."""
        await self._report("complete", claim, pause)

    async def fail(self, claim: Claim, code: str, message: str, retry_in: timedelta, *, anew: bool) -> None:
        """End the attempt, to be tried again; `anew` when none of its jobs has given anything or will."""
        await self._report("fail", claim, code, message, retry_in, anew)

    async def hand_back(self, claim: Claim) -> None:
        """Let another worker go on with the batch at once."""
        await self._report("hand_back", claim)

    async def _report(self, statement: str, claim: Claim, *values: object) -> None:
        with fence():
            async with borrow(self._pool, QUICK_SECONDS) as connection:
                await connection.execute(query("sinks", statement), *claim.held, *values)


async def _groups(connection: Connection, batch: Batch) -> AsyncIterator[Records]:
    cursor = await connection.cursor(query("sinks", "rows"), batch.product, batch.channel, batch.builds)
    group: Records = []
    size = 0
    while records := await cursor.fetch(ROWS_AT_ONCE):
        group += map(dict, records)
        size += sum(len(record[name]) for record in records for name in TEXTS)
        if len(group) >= ROWS_A_GROUP or size >= BYTES_A_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
