"""Query jobs: queued and run in threads, cancelled, and their results kept for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import structlog

from warehouse.engine import as_bigquery, bound
from warehouse.errors import BigQueryError
from warehouse.queries import query, render

if TYPE_CHECKING:
    from warehouse.engine import Engine, Plan

log = structlog.get_logger(__name__)

INTERRUPT_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """Limits of the job store: jobs that run, wait and are kept at once, and seconds that are waited."""

    parallel: int = 2
    queued: int = 100
    kept: int = 500
    kept_seconds: float = 3600.0
    shutdown_seconds: float = 5.0


@dataclass
class Job:
    """One query job; `result` is the DuckDB table with its rows once it is done."""

    project: str
    job_id: str
    query: dict[str, object]
    labels: dict[str, str]
    plan: Plan
    byte_limit: int | None = None
    state: str = "PENDING"
    error: BigQueryError | None = None
    cancelled: bool = False
    result: str = ""
    rows: int = 0
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reference(self) -> dict[str, str]:
        """Return the job's JobReference in the REST API."""
        return {"projectId": self.project, "jobId": self.job_id, "location": "US"}


class JobStore:
    """The jobs by project and id; finished ones expire by age and number, the oldest first."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._jobs: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._running: dict[int, duckdb.DuckDBPyConnection] = {}
        self._threads = ThreadPoolExecutor(limits.parallel, thread_name_prefix="warehouse-job")
        self._numbers = 0

    def get(self, project: str, job_id: str) -> Job:
        """Return the job; raise notFound when there never was one or it has expired."""
        self._expire()
        job = self._jobs.get((project, job_id))
        if job is None:
            raise BigQueryError("notFound", f"Not found: Job {project}:US.{job_id}")
        return job

    def newest_first(self, project: str) -> list[Job]:
        """Return the project's jobs that have not expired, the newest first."""
        self._expire()
        return [job for (owner, _), job in reversed(self._jobs.items()) if owner == project]

    def check_new(self, project: str, job_id: str) -> None:
        """Raise `duplicate` for an id in use, `rateLimitExceeded` when too many jobs wait."""
        if (project, job_id) in self._jobs:
            raise BigQueryError("duplicate", f"Already Exists: Job {project}:US.{job_id}")
        if len(self._tasks) >= self._limits.parallel + self._limits.queued:
            raise BigQueryError("rateLimitExceeded", "Exceeded rate limits: too many concurrent queries")

    def start(self, job: Job) -> None:
        """Queue a new job, which runs when a thread is free; raise BigQueryError as `check_new` does."""
        self._expire()
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

    async def close(self) -> None:
        """Cancel all jobs and wait a bounded time for their threads to stop."""
        for job in self._tasks.values():
            self.cancel(job)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._limits.shutdown_seconds)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, job: Job) -> None:
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._execute, job)
        watcher = asyncio.create_task(self._interrupt_when_cancelled(job))
        try:
            await work
        except BigQueryError as error:
            job.error = error
        except Exception:
            log.exception("job_crashed", job_id=job.job_id)
            job.error = BigQueryError("internalError", "An internal error occurred")
        finally:
            watcher.cancel()
            job.ended, job.state = time.time(), "DONE"
            job.done.set()
            log.info("job_done", job_id=job.job_id, rows=job.rows, error=job.error and job.error.reason)

    async def _interrupt_when_cancelled(self, job: Job) -> None:
        # Repeated, because DuckDB forgets an interrupt that comes just before the query begins.
        while True:
            if job.cancelled and (connection := self._running.get(id(job))):
                connection.interrupt()
            await asyncio.sleep(INTERRUPT_EVERY_SECONDS)

    def _execute(self, job: Job) -> None:
        job.started, job.state = time.time(), "RUNNING"
        _check_limits(job)
        with self._engine.cursor() as cursor:
            self._running[id(job)] = cursor
            try:
                self._fill(cursor, job)
            except duckdb.Error as error:
                raise as_bigquery(error) from error
            finally:
                del self._running[id(job)]

    def _fill(self, cursor: duckdb.DuckDBPyConnection, job: Job) -> None:
        sql = job.plan.translation.sql
        cursor.execute(render("create_result", result=job.result, query=sql), bound(job.plan.parameters, sql))
        job.rows = int((cursor.execute(query("jobs", "count_rows"), {"result": job.result}).fetchone() or (0,))[0])

    def _expire(self) -> None:
        oldest = time.time() - self._limits.kept_seconds
        finished = [key for key, job in self._jobs.items() if job.ended is not None]
        excess = len(finished) - self._limits.kept
        for index, key in enumerate(finished):
            if index < excess or (self._jobs[key].ended or oldest) < oldest:
                self._drop(self._jobs.pop(key))

    def _drop(self, job: Job) -> None:
        with contextlib.suppress(duckdb.Error), self._engine.cursor() as cursor:
            cursor.execute(render("drop_result", result=job.result))


def _check_limits(job: Job) -> None:
    if job.cancelled:
        raise BigQueryError("stopped", "Job execution was cancelled: User requested cancellation")
    billed, limit = job.plan.bytes_billed, job.byte_limit
    if limit is not None and billed > limit:
        raise BigQueryError(
            "bytesBilledLimitExceeded",
            f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required.",
        )
