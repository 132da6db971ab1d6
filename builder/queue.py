"""The queue of builds, as the functions of `schema.sql` keep it. Every call names the attempt that it is made for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from types import NoneType
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from builder.probe import BuildRequest, ProbeRow
from usage_service.shared.postgres import Connection, Pool

ROW_COLUMNS = (
    "product", "channel", "probe", "built_by", "version", "ping_type", "os", "build_id", "metric_type", "metric_key",
    "client_agg_type", "total_users", "total_sample", "histogram", "percentiles", "non_norm_histogram",
    "non_norm_percentiles", "build_date",
)  # fmt: skip
STALE_ATTEMPT = "UB001"
Kind = TypeVar("Kind")


class LeaseLostError(Exception):
    """The build has moved on without this worker; nothing was changed."""


class Claim(msgspec.Struct, frozen=True):
    """A build that this worker holds, at this attempt."""

    build_id: UUID
    attempt: int
    product: str
    channel: str
    probe: str
    metric_type: str
    pings: list[str]

    def request(self, run_date: date, latest_version: int | None) -> BuildRequest:
        """What is to be computed."""
        return BuildRequest(
            build_id=self.build_id,
            product=self.product,
            channel=self.channel,
            probe=self.probe,
            metric_type=self.metric_type,
            pings=tuple(self.pings),
            run_date=run_date,
            latest_version=latest_version,
        )


class BuildQueue:
    """Claims builds and reports on them; raises LeaseLostError where the claim no longer holds."""

    def __init__(self, pool: Pool, worker: str, lease: timedelta) -> None:
        self._pool = pool
        self._worker = worker
        self._lease = lease

    async def claim(self) -> Claim | None:
        """The longest waiting build, now held by this worker; None when none waits."""
        async with self._pool.acquire(timeout=5) as connection:
            row = await connection.fetchrow("SELECT * FROM claim_build($1, $2)", self._worker, self._lease)
        return msgspec.convert({name: row[name] for name in Claim.__struct_fields__}, Claim) if row else None

    async def expire_leases(self) -> int:
        """Puts builds whose worker is gone back in the queue; how many."""
        async with self._pool.acquire(timeout=5) as connection:
            number: int = await connection.fetchval("SELECT expire_leases()")
        return number

    async def latest_version(self, product: str, channel: str) -> int | None:
        """The newest version that was released on the channel, if a release was ever reported."""
        async with self._pool.acquire(timeout=5) as connection:
            version: int | None = await connection.fetchval(
                "SELECT max(version) FROM releases WHERE product = $1 AND channel = $2", product, channel
            )
        return version

    async def heartbeat(
        self, claim: Claim, stage: str | None = None, percent: int | None = None, read: int | None = None
    ) -> None:
        """Keeps the lease; with a stage, records how far the build is and the bytes read so far."""
        async with self._pool.acquire(timeout=5) as connection:
            await _fenced(
                connection,
                NoneType,
                "SELECT heartbeat_build($1, $2, $3, $4, $5, $6)",
                *(claim.build_id, claim.attempt, self._lease, stage, percent, read),
            )

    async def complete(self, claim: Claim, rows: Iterable[ProbeRow], bytes_read: int) -> int:
        """Stores the rows in place of earlier ones and ends the build, in one transaction; how many rows."""
        async with self._pool.acquire(timeout=5) as connection, connection.transaction():
            await connection.copy_records_to_table(
                "probe_rows", records=(_record(claim, row) for row in rows), columns=ROW_COLUMNS
            )
            return await _fenced(
                connection, int, "SELECT complete_build($1, $2, $3)", claim.build_id, claim.attempt, bytes_read
            )

    async def fail(self, claim: Claim, code: str, message: str, retry_in: timedelta | None) -> str:
        """Ends the attempt; the build's state then: queued again, while attempts are left, or failed."""
        async with self._pool.acquire(timeout=5) as connection:
            return await _fenced(
                connection,
                str,
                "SELECT fail_build($1, $2, $3, $4, $5)",
                *(claim.build_id, claim.attempt, code, message, retry_in),
            )


async def _fenced(connection: Connection, kind: type[Kind], statement: str, *values: object) -> Kind:
    try:
        return msgspec.convert(await connection.fetchval(statement, *values), kind)
    except asyncpg.PostgresError as error:
        if error.sqlstate == STALE_ATTEMPT:
            raise LeaseLostError(str(error)) from None
        raise


def _record(claim: Claim, row: ProbeRow) -> tuple[object, ...]:
    return (
        claim.product, claim.channel, claim.probe, claim.build_id, row.version, row.ping_type, row.os,
        row.app_build_id, row.metric_type, row.metric_key, row.client_agg_type, row.total_users, row.total_sample,
        row.histogram, row.percentiles, row.non_norm_histogram, row.non_norm_percentiles, row.build_date,
    )  # fmt: skip
