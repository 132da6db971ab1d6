"""The queue of builds, as the functions of `schema.sql` keep it. Every call names the attempt that it is made for.

Every call but `complete` with rows is one statement that commits by itself, and that one commits in the message that
takes the log's lock: a builder that freezes or is cut off between two messages holds no lock that others wait for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import zip_longest
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest, Rows
from builder.completions import Completion, Completions
from builder.connections import LONGEST_WAIT_SECONDS, Connections
from builder.fencing import LeaseLostError, fence
from builder.queries import query
from builder.row_storing import Owner, store_rows
from usage_service.shared.postgres import Pool


class Claim(msgspec.Struct, frozen=True):
    """A build that this worker holds, at this attempt.

    `waited_seconds` is the time for which the build could have been claimed; `latest_version` the newest version that
    was released on the channel, if a release was ever reported; `definition` the part of the probe's definition that
    determines its buckets; `traceparent` the trace of the request for the build.
    """

    build_id: UUID
    attempt: int
    product: str
    channel: str
    probe: str
    metric_type: str
    pings: list[str]
    prefetched: bool
    waited_seconds: float
    latest_version: int | None
    definition: Definition | None = None
    traceparent: str | None = None

    @property
    def held(self) -> tuple[UUID, int]:
        """Return the build and the attempt, as the functions of the schema take them."""
        return self.build_id, self.attempt

    def request(self, run_date: date) -> BuildRequest:
        """Return the request of the probe's rows, as of the day `run_date`."""
        return BuildRequest(
            build_id=self.build_id,
            product=self.product,
            channel=self.channel,
            probe=self.probe,
            metric_type=self.metric_type,
            pings=tuple(self.pings),
            run_date=run_date,
            latest_version=self.latest_version,
            definition=self.definition or Definition(),
        )


class Stored(NamedTuple):
    """The number of rows that a build ended with, and the build that was claimed in the same transaction, if one was.

    `looked`: that transaction has looked for one, so if there is none, none waits.
    """

    rows: int
    successor: Claim | None = None
    looked: bool = False


class Exchange(NamedTuple):
    """The builds that were ended, and those that were claimed in the same transaction."""

    ended: list[UUID]
    claims: list[Claim]


class BuildQueue:
    """The queue of builds for one worker, which claims builds here and reports on them.

    Reports raise LeaseLostError or BuildCancelledElsewhereError when the claim is over. Each call raises one of
    UNAVAILABLE within a few seconds when the database is away; a call whose answer is lost may be made again.
    """

    def __init__(self, pool: Pool, worker: str, lease: timedelta) -> None:
        self._connections = Connections(pool, lease)
        self._worker = worker
        self._lease = lease
        self._wait = self._connections.wait
        self._completions = Completions[Stored](self._end_all)
        self._is_open = True

    def close(self) -> None:
        """Claim nothing any more with the ends of builds."""
        self._is_open = False

    async def claim(self, most: int = 1) -> list[Claim]:
        """Return up to `most` builds, claimed in one transaction. A claim whose answer is lost ends with its lease."""
        return (await self._exchange([], most, LONGEST_WAIT_SECONDS)).claims

    async def expire_leases(self) -> int:
        """Queue the builds again whose lease has run out, and return how many these are."""
        async with self._connections.one() as connection:
            number: int = await connection.fetchval(query("queue", "expire_leases"), timeout=LONGEST_WAIT_SECONDS)
        return number

    async def claim_orphaned_jobs(self) -> list[UUID]:
        """Return the cancelled builds whose warehouse jobs this worker is to stop, until a lease has passed."""
        async with self._connections.one() as connection:
            rows = await connection.fetch(
                query("queue", "claim_orphaned_jobs"), self._lease, timeout=LONGEST_WAIT_SECONDS
            )
        return [row[0] for row in rows]

    async def mark_jobs_stopped(self, build_id: UUID) -> None:
        """Note that a cancelled build has no warehouse jobs any more."""
        async with self._connections.one() as connection:
            await connection.execute(query("queue", "mark_jobs_stopped"), build_id, timeout=LONGEST_WAIT_SECONDS)

    async def bytes_left_today(self, most: int) -> int:
        """Return how many bytes may still be read today where `most` may be read a day."""
        async with self._connections.one() as connection:
            left: int = await connection.fetchval(query("queue", "bytes_left_today"), most)
        return left

    async def heartbeat(
        self, claim: Claim, stage: str | None = None, percent: int | None = None, read: int | None = None
    ) -> None:
        """Renew the lease; record the stage and percent that the build has reached, and the bytes read, where given."""
        values = (*claim.held, self._lease, stage, percent, read)
        async with self._connections.one() as connection:
            with fence():
                await connection.execute(query("queue", "heartbeat"), *values, timeout=self._wait)

    async def account(self, claim: Claim, job: str, size: int, read: int, most: int | None) -> int | None:
        """Count what a job of the warehouse is to read, once, of `most` a day; return how many are left if too few.

        With no `most` the job is over, and has read so many. `read` are those of the attempt, this job's included.
        """
        values = (*claim.held, self._lease, job, size, read, most)
        async with self._connections.one() as connection:
            with fence():
                left: int | None = await connection.fetchval(query("queue", "account"), *values, timeout=self._wait)
        return left

    async def complete(self, claim: Claim, rows: Rows, bytes_read: int) -> Stored:
        """Merge the rows with those of earlier builds, end the build in the same transaction, and return how many rows.

        Called again because the answer was lost, it returns the same number. The end of a build without rows claims the
        next one.
        """
        try:
            with fence():
                return await self._ended(claim, rows, bytes_read)
        except (LeaseLostError, asyncpg.UniqueViolationError):  # by this attempt, by another one, or rows twice
            async with self._connections.one() as connection:
                stored: int | None = await connection.fetchval(query("queue", "stored_rows"), *claim.held)
                if stored is not None:
                    return Stored(stored)
                with fence():
                    await connection.execute(query("queue", "renew_lease"), *claim.held, self._lease)
                raise

    async def _ended(self, claim: Claim, rows: Rows, bytes_read: int) -> Stored:
        if not len(rows):
            if ended := await self._completions.end(Completion(*claim.held, bytes_read)):
                return ended
            raise LeaseLostError(f"attempt {claim.attempt} of build {claim.build_id} is no longer running")
        async with self._connections.one() as connection:
            ending = ("complete", *claim.held, bytes_read)
            owner = Owner(claim.product, claim.channel, claim.probe, claim.build_id)
            return Stored(await store_rows(connection, owner, rows, ending))

    async def _end_all(self, completions: Sequence[Completion]) -> Mapping[UUID, Stored]:
        looks = self._is_open
        ended, claims = await self._exchange(completions, len(completions) if looks else 0, self._wait)
        return {build_id: Stored(0, claim, looks) for build_id, claim in zip_longest(ended, claims)}

    async def _exchange(self, completions: Sequence[Completion], most: int, seconds: float) -> Exchange:
        """End builds without rows, and claim up to `most` others: no more than were ended, if there are any to end."""
        ids, attempts, sizes = zip(*completions, strict=True) if completions else ((), (), ())
        values = (ids, attempts, sizes, self._worker, self._lease, most)
        async with self._connections.one() as connection:
            rows = await connection.fetch(query("queue", "exchange"), *values, timeout=seconds)
        claimed = [row for row in rows if row["state"] == "running"]
        claims = [msgspec.convert({name: row[name] for name in Claim.__struct_fields__}, Claim) for row in claimed]
        return Exchange([row["build_id"] for row in rows if row["state"] != "running"], claims)

    async def fail(self, claim: Claim, code: str, message: str, retry_in: timedelta | None) -> str:
        """End the attempt and return the build's state: `queued` while attempts are left, or `failed`."""
        values = (*claim.held, code, message, retry_in)
        async with self._connections.one() as connection:
            with fence():
                state: str = await connection.fetchval(query("queue", "fail"), *values)
        return state

    async def hand_back(self, claim: Claim) -> None:
        """Queue the build again for another worker to claim at once; the attempt does not count."""
        async with self._connections.one() as connection:
            with fence():
                await connection.execute(query("queue", "hand_back"), *claim.held)

    async def note_builder(self) -> None:
        """Note that this worker is alive."""
        async with self._connections.one() as connection:
            await connection.execute(query("queue", "note_builder"), self._worker, timeout=LONGEST_WAIT_SECONDS)

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notification."""
        async with self._connections.one() as connection:
            await connection.execute(query("queue", "notify"), channel, payload, timeout=LONGEST_WAIT_SECONDS)
