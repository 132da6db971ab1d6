"""The mirroring of the log: one load after the other, each verified some time after, by whoever runs this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar
from uuid import UUID

import structlog
from google.cloud import bigquery

from usage_service.log.errors import LogReadError
from usage_service.log.mirrored import Load, MirrorPlace
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.mirror.filling import session_rules
from usage_service.mirror.loading import Loader
from usage_service.mirror.tables import prepare
from usage_service.mirror.verifying import Verifier
from usage_service.queries import query
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import TransientWorkError, WorkError
from usage_service.shared.bigquery.jobs import JobOptions
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow
from usage_service.shared.threads import in_thread

QUICK_SECONDS = 25.0  # for a statement of ours: planning counts as many events as a load may have
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0  # between two looks at the log
MOST_DOUBLINGS, MOST_CHARACTERS, MOST_TRIES = 10, 2_000, 20
OPTIONS = JobOptions(deadline_seconds=600)
Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class MirrorLimits(NamedTuple):
    """The limits of loads: BigQuery takes 1,500 jobs and 30,000 changes of partitions a table and day, 4,000 a job.

    Some of its jobs are left for those that fail.
    """

    events: int = 1_000_000
    seconds: float = 75.0
    partitions: int = 2_000
    jobs_a_day: int = 1_300
    partitions_a_day: int = 25_000
    verify_seconds: float = 3_600.0
    loads_a_statement: int = 200
    longest_backoff: float = 300.0


class Verified(NamedTuple):
    """A verification: how many loads were looked at, and how many of them differ from the log."""

    loads: int
    differing: int


class Mirror:
    """A mirror of the log, as one process keeps it. Several may: they make the same loads, under the same ids."""

    def __init__(
        self, pool: Pool, database_url: str, place: MirrorPlace, options: JobOptions, limits: MirrorLimits
    ) -> None:
        self._pool = pool
        self._place = place
        self._limits = limits
        self._loader = Loader(place.client(), place, database_url, options)
        self._verifier = Verifier(place.client(), place, options)

    async def run(self) -> None:
        """Mirror until cancelled, trying again what fails."""
        failures = 0
        pause = min(LONGEST_PAUSE_SECONDS, max(SHORTEST_PAUSE_SECONDS, self._limits.seconds / 5))
        while True:
            failures = 0 if await self._step() else failures + 1
            await asyncio.sleep(min(self._limits.longest_backoff, pause * 2 ** min(failures, MOST_DOUBLINGS)))

    async def _step(self) -> bool:
        """Catch up and verify what is due; return whether that went well."""
        try:
            await self.catch_up()
            await self._verify_when_due()
        except (*UNAVAILABLE, LogReadError) as error:
            log.warning("mirror_database_unavailable", error=repr(error))
        except WorkError as error:
            log.warning("mirror_failed", code=error.code, message=str(error))
            await self._fail(error.code, str(error))
        except Exception:
            log.exception("mirror_crashed")
            await self._fail("internal", "the mirror failed; its log says why")
        else:
            return True
        return False

    async def catch_up(self) -> int:
        """Make all loads that may be made now; return how many. Raise a WorkError or an error of the database."""
        loads = 0
        while (planned := await self._plan()) is not None:
            control, (load, series) = Control(), planned
            work = partial(self._loader.load, load, series, control)
            loaded = await self._in_thread(work, control, f"load {load.after}")
            await self._call("complete", load.after, load.events, loaded.digest, loaded.bytes)
            log.info("events_mirrored", after=load.after, upto=load.upto, events=load.events, bytes=loaded.bytes)
            loads += 1
        return loads

    async def verify(self, upto: int = LARGEST_POSITION) -> Verified:
        """Verify the loads that are not, up to a position. Raise a WorkError or an error of the database."""
        checked = differing = 0
        seen = -1
        while loads := await self._to_verify(upto, seen):
            control = Control()
            found = await self._in_thread(partial(self._verifier.find, loads, control), control, "verify")
            columns = [list(column) for column in zip(*found, strict=True)]
            async with borrow(self._pool, QUICK_SECONDS) as connection:
                values = self._place.mirror, *columns
                differing += await connection.fetchval(query("mirror", "verify"), *values)
            checked += len(loads)
            seen = loads[-1].after
        if differing:
            log.error("mirror_differs", loads=differing)
        return Verified(checked, differing)

    async def repair(self) -> Verified:
        """Make loads that differ from the log again, where the log has their events. Raise as `catch_up` does.

        Each is deleted first; whoever is killed then leaves it for the next one to make.
        """
        for load in await self._differing():
            control = Control()
            await self._in_thread(partial(self._verifier.remove, load, control), control, f"removal {load.after}")
            await self._make_again(load)
            await self.catch_up()
        return await self.verify()

    async def _make_again(self, load: Load) -> None:
        """Have a load planned anew, once no other is under way: whoever mirrors meanwhile may have begun one."""
        for _ in range(MOST_TRIES):
            async with borrow(self._pool, QUICK_SECONDS) as connection:
                if await connection.fetchval(query("mirror", "repair"), self._place.mirror, load.after):
                    return
            await self.catch_up()
        raise TransientWorkError("otherLoads", f"load {load.after} was deleted; run the repair again to make it again")

    async def _differing(self) -> list[Load]:
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            return [Load(*row) for row in await connection.fetch(query("mirror", "differing"), self._place.mirror)]

    async def _plan(self) -> tuple[Load, UUID] | None:
        limits = self._limits
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            row = await connection.fetchrow(
                query("mirror", "plan"),
                self._place.mirror,
                limits.events,
                timedelta(seconds=limits.seconds),
                limits.partitions,
                limits.jobs_a_day,
                limits.partitions_a_day,
            )
        if row is None:
            return None
        *columns, series = row
        return Load(*columns), series

    async def _to_verify(self, upto: int, after: int) -> list[Load]:
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            values = self._place.mirror, after, upto, self._limits.loads_a_statement
            return [Load(*row) for row in await connection.fetch(query("mirror", "to_verify"), *values)]

    async def _verify_when_due(self) -> None:
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            since = await connection.fetchval(query("mirror", "unverified_since"), self._place.mirror)
        if since is not None and (datetime.now(UTC) - since).total_seconds() >= self._limits.verify_seconds:
            await self.verify()

    async def _fail(self, code: str, message: str) -> None:
        try:
            await self._call("fail", code, message[:MOST_CHARACTERS])
        except UNAVAILABLE as away:
            log.warning("mirror_failure_not_noted", error=repr(away))

    async def _call(self, statement: str, *values: object) -> None:
        async with borrow(self._pool, QUICK_SECONDS) as connection:
            await connection.execute(query("mirror", statement), self._place.mirror, *values)

    async def _in_thread(self, work: Callable[[], Result], control: Control, name: str) -> Result:
        """Run work in a thread; a cancellation leaves its job to whoever mirrors next."""
        try:
            async with asyncio.timeout(self._loader.options.deadline_seconds):
                return await in_thread(work, f"mirror {name}")
        except TimeoutError:
            raise TransientWorkError("timeout", f"{name} took too long; its job will be adopted") from None
        finally:
            control.abandon()


@asynccontextmanager
async def opened_mirror(
    pool: Pool, database_url: str, place: MirrorPlace, limits: MirrorLimits, options: JobOptions = OPTIONS
) -> AsyncIterator[Mirror]:
    """Begin a mirror, or go on with it: what is missing in BigQuery is made. Raise a WorkError."""
    client: bigquery.Client = await in_thread(place.client, "client of the mirror")
    async with borrow(pool, QUICK_SECONDS) as connection:
        rules = await session_rules(connection)
    await in_thread(partial(prepare, client, place, rules), "prepare the mirror")
    async with borrow(pool, QUICK_SECONDS) as connection:
        await connection.execute(query("mirror", "begin"), place.mirror)
    yield Mirror(pool, database_url, place, options, limits)
