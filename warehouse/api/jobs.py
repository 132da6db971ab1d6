"""Jobs: queued and run in threads, cancelled, and kept for a while; those that wrote are remembered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import duckdb
import structlog

from warehouse.definitions import Resource, type_of
from warehouse.engine import as_bigquery
from warehouse.errors import BigQueryError
from warehouse.queries import render
from warehouse.schema import field_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from warehouse.api.listing import Listing
    from warehouse.engine import Engine
    from warehouse.schema import Type
    from warehouse.writing import Change

log = structlog.get_logger(__name__)

INTERRUPT_EVERY_SECONDS = 0.05
DONE = "DONE"


@dataclass(frozen=True)
class Limits:
    """Limits of the job store: jobs that run, wait and are kept at once, and seconds that are waited."""

    parallel: int = 2
    queued: int = 100
    kept: int = 500
    kept_seconds: float = 3600.0
    shutdown_seconds: float = 5.0


class Work(Protocol):
    """What a job does: it may read beside others, and write when its turn comes."""

    @property
    def reads(self) -> bool:
        """Return whether there is something to read."""

    @property
    def writes(self) -> bool:
        """Return whether there is something to write."""

    def check(self, job: Job) -> None:
        """Raise BigQueryError when the job is not allowed to run."""

    def read(self, job: Job, cursor: duckdb.DuckDBPyConnection) -> None:
        """Do what needs no change of a table, and set in the job what came of it."""

    def write(self, job: Job, change: Change) -> None:
        """Change tables, and set in the job what came of it."""

    def close(self) -> None:
        """Free what only this work needs."""


@dataclass
class Job:
    """One job; `result` is the DuckDB relation with the rows of a query once it is done, until the job expires.

    `stays` is the relation that has the rows even then, or nothing. `statistics` are those of the job's kind, as the
    REST API has them; `affected` is the number of rows that a statement of DML changed.
    """

    project: str
    job_id: str
    configuration: Resource
    work: Work | None = None
    columns: list[tuple[str, Type]] = field(default_factory=list)
    statistics: Resource = field(default_factory=dict)
    state: str = "PENDING"
    error: BigQueryError | None = None
    cancelled: bool = False
    result: str = ""
    stays: str = ""
    rows: int = 0
    affected: int | None = None
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reference(self) -> dict[str, str]:
        """Return the job's JobReference in the REST API."""
        return {"projectId": self.project, "jobId": self.job_id, "location": "US"}

    def record(self) -> Resource:
        """Return what is remembered of a job that wrote."""
        return {
            "configuration": self.configuration,
            "columns": [field_resource(name, kind) for name, kind in self.columns],
            "statistics": self.statistics,
            "result": self.stays,
            "rows": self.rows,
            "affected": self.affected,
            "times": [self.created, self.started, self.ended],
        }


def recorded(project: str, job_id: str, record: Resource) -> Job:
    """Return a job that is remembered: it has succeeded."""
    created, started, ended = record["times"]
    job = Job(
        project,
        job_id,
        record["configuration"],
        columns=list(type_of(record["columns"]).fields.items()),
        statistics=record["statistics"],
        state=DONE,
        result=record["result"],
        rows=record["rows"],
        affected=record["affected"],
        created=created,
        started=started,
        ended=ended,
    )
    job.done.set()
    return job


class JobStore:
    """The jobs by project and id; finished ones expire by age and number, the oldest first."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._jobs: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._running: dict[int, duckdb.DuckDBPyConnection] = {}
        self._threads = ThreadPoolExecutor(limits.parallel, thread_name_prefix="warehouse-job")
        # One at a time: changes of a table follow each other in the order in which they were asked for.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="warehouse-writer")
        self._numbers = 0

    def get(self, project: str, job_id: str) -> Job:
        """Return the job; raise notFound when there never was one or it has expired."""
        job = self._find(project, job_id)
        if job is None:
            raise BigQueryError("notFound", f"Not found: Job {project}:US.{job_id}")
        return job

    def _find(self, project: str, job_id: str) -> Job | None:
        self._expire()
        if job := self._jobs.get((project, job_id)):
            return job
        record = self._engine.job(project, job_id)
        return recorded(project, job_id, record) if record else None

    def newest_first(self, project: str, listing: Listing) -> list[Job]:
        """Return a page of the project's jobs that have not expired, the newest first, and one more if there is."""
        self._expire()
        count, jobs = listing.limit + 1, {}
        if DONE.lower() in listing.states:
            records = self._engine.jobs(project, listing.oldest, listing.newest, listing.after, count)
            jobs = {job_id: recorded(project, job_id, record) for job_id, record in records}
        for (owner, job_id), job in self._jobs.items():
            if owner == project and listing.has(job.created, job_id, job.state):
                jobs[job_id] = job
        return sorted(jobs.values(), key=lambda job: (job.created, job.job_id), reverse=True)[:count]

    def check_new(self, project: str, job_id: str) -> None:
        """Raise `duplicate` for an id in use, `rateLimitExceeded` when too many jobs wait."""
        if self._find(project, job_id):
            raise BigQueryError("duplicate", f"Already Exists: Job {project}:US.{job_id}")
        if len(self._tasks) >= self._limits.parallel + self._limits.queued:
            raise BigQueryError("rateLimitExceeded", "Exceeded rate limits: too many concurrent queries")

    def start(self, job: Job) -> None:
        """Queue a new job, which runs when a thread is free; raise BigQueryError as `check_new` does."""
        self.check_new(job.project, job.job_id)
        self._numbers += 1
        job.result = f"bq_result_{self._numbers}"
        self._jobs[job.project, job.job_id] = job
        task = asyncio.create_task(self._run(job))
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; a finished one stays as it is."""
        job.cancelled = True

    async def change(self, step: Callable[[Change], None]) -> None:
        """Make a change that is no job, such as dropping a table, when its turn comes."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._change, step)

    async def close(self) -> None:
        """Cancel all jobs and wait a bounded time for their threads to stop."""
        for job in self._tasks.values():
            self.cancel(job)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._limits.shutdown_seconds)
        for threads in (self._threads, self._writer):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, job: Job) -> None:
        watcher = asyncio.create_task(self._interrupt_when_cancelled(job))
        try:
            await self._work(job)
        except BigQueryError as error:
            job.error = error
        except Exception:
            log.exception("job_crashed", job_id=job.job_id)
            job.error = BigQueryError("internalError", "An internal error occurred")
        finally:
            watcher.cancel()
            job.ended, job.state = job.ended or time.time(), DONE
            job.done.set()
            log.info("job_done", job_id=job.job_id, rows=job.rows, error=job.error and job.error.reason)

    async def _work(self, job: Job) -> None:
        loop, work = asyncio.get_running_loop(), job.work
        if work is None:
            raise BigQueryError("internalError", "A job that is over cannot be run")
        try:
            if work.reads:
                await loop.run_in_executor(self._threads, self._read, job, work)
            if work.writes:
                await loop.run_in_executor(self._writer, self._write, job, work)
        finally:
            work.close()
            job.work = None

    async def _interrupt_when_cancelled(self, job: Job) -> None:
        # Repeated, because DuckDB forgets an interrupt that comes just before the query begins.
        while True:
            if job.cancelled and (connection := self._running.get(id(job))):
                connection.interrupt()
            await asyncio.sleep(INTERRUPT_EVERY_SECONDS)

    def _read(self, job: Job, work: Work) -> None:
        self._begin(job, work)
        with self._engine.cursor() as cursor:
            self._interruptible(job, cursor, lambda: work.read(job, cursor))

    def _write(self, job: Job, work: Work) -> None:
        def step(change: Change) -> None:
            self._interruptible(job, change.cursor, lambda: work.write(job, change))
            check_cancelled(job)
            job.ended = time.time()
            change.add_job(job.project, job.job_id, job.created, job.record())

        self._begin(job, work)
        self._change(step)

    def _begin(self, job: Job, work: Work) -> None:
        check_cancelled(job)
        job.started, job.state = job.started or time.time(), "RUNNING"
        work.check(job)

    def _interruptible(self, job: Job, cursor: duckdb.DuckDBPyConnection, work: Callable[[], None]) -> None:
        self._running[id(job)] = cursor
        try:
            work()
        except duckdb.Error as error:
            raise as_bigquery(error) from error
        finally:
            del self._running[id(job)]

    def _change(self, step: Callable[[Change], None]) -> None:
        try:
            with self._engine.change() as change:
                step(change)
        except duckdb.Error as error:
            raise as_bigquery(error) from error

    def _expire(self) -> None:
        oldest = time.time() - self._limits.kept_seconds
        finished = [key for key, job in self._jobs.items() if job.done.is_set()]
        excess = len(finished) - self._limits.kept
        for index, key in enumerate(finished):
            if index < excess or (self._jobs[key].ended or oldest) < oldest:
                self._drop(self._jobs.pop(key))

    def _drop(self, job: Job) -> None:
        with contextlib.suppress(duckdb.Error), self._engine.cursor() as cursor:
            cursor.execute(render("drop_result", result=job.result))


def check_cancelled(job: Job) -> None:
    """Raise `stopped` when somebody has asked the job to stop."""
    if job.cancelled:
        raise BigQueryError("stopped", "Job execution was cancelled: User requested cancellation")
