"""BigQuery, or the embedded warehouse that has the same API: a client, and statements as jobs that can be adopted."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from os import SEEK_END
from typing import BinaryIO, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from google.api_core.exceptions import Conflict, NotFound
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WarehouseBusyError, WorkError
from usage_service.shared.bigquery.pages import Page, read_pages
from usage_service.shared.bigquery.patience import Patience, Pauses
from usage_service.shared.bigquery.reasons import JOB_NOT_FOUND, as_work_errors, job_error, work_error
from usage_service.shared.bigquery.statement import Statement
from usage_service.shared.settings import SettingsError
from usage_service.shared.tracing import span, spanned

LOG = structlog.get_logger(__name__)

ANONYMOUS: Callable[[], Credentials] = AnonymousCredentials
MOST_JOBS = 100
JOBS_FAILED = "jobsFailed"
STOPPED = "stopped"
ONCE = Retry(predicate=lambda _: False)
FIRST_POLL_SECONDS, POLL_GROWTH = 0.02, 1.2  # so that a sixth of what a job took is waited for in vain, at most
LABEL_LENGTH = 63
RESULT_KEPT = timedelta(hours=12)  # BigQuery keeps a result for 24 hours


def ignore(*_: object) -> None:
    """Do nothing."""


def is_missing_job(error: Exception) -> bool:
    """Return whether the warehouse did not find a job: not a table."""
    failure = work_error(error)
    return failure is not None and failure.code == JOB_NOT_FOUND


Tick = Callable[[int], None]
"""Called at every poll with the bytes that the statement reads; raises an error to stop the work."""

Pulse = Callable[[], None]

Client: TypeAlias = bigquery.Client

Job = TypeVar("Job", bigquery.QueryJob, bigquery.LoadJob)


def make_client(project: str, endpoint: str | None, location: str) -> bigquery.Client:
    """Return a client of BigQuery, or of the warehouse at `endpoint`; over plain HTTP it sends no credentials."""
    if endpoint is None:
        try:
            return bigquery.Client(project=project, location=location)
        except DefaultCredentialsError:
            raise SettingsError(
                "GOOGLE_APPLICATION_CREDENTIALS: no credentials of Google were found; name a file of them, or set "
                "PROBE_BUILDER_WAREHOUSE_URL to a warehouse that needs none"
            ) from None
    credentials = ANONYMOUS() if urlsplit(endpoint).scheme == "http" else None
    return bigquery.Client(
        project=project, location=location, credentials=credentials, client_options={"api_endpoint": endpoint}
    )


def label(text: str) -> str:
    """Return the text as a label's value: at most 63 lower case letters, digits, `_` and `-`."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:LABEL_LENGTH]


def has_expired(job: bigquery.QueryJob | bigquery.LoadJob) -> bool:
    """Return whether the job ended so long ago that its result may expire while it is read; what is stored stays."""
    ended: datetime | None = job.ended
    has_result = isinstance(job, bigquery.QueryJob) and job.statement_type in (None, "SELECT")
    return has_result and ended is not None and datetime.now(UTC) - ended > RESULT_KEPT


class Start(NamedTuple, Generic[Job]):
    """A way to start a job: its name, its kind, and a call that starts it under an id, once.

    The call raises Conflict where there is a job of that id. Where it costs much, that is asked before.
    """

    name: str
    kind: type[Job]
    call: Callable[[str], Job]
    bytes: int = 0
    costs_much: bool = False


@dataclass(frozen=True)
class JobOptions:
    """The limits of a work: bytes a statement may read, seconds the work may take, seconds a request may take."""

    maximum_bytes_billed: int = 10 * 2**40
    deadline_seconds: float = 3600.0
    request_seconds: float = 30.0
    poll_seconds: float = 2.0
    page_size: int = 1_000
    pauses: Pauses = field(default_factory=Pauses)


def stop_jobs(client: bigquery.Client, work_id: UUID, options: JobOptions) -> list[str]:
    """Cancel the unfinished jobs of a build, whichever builder started them, and return their ids.

    Only jobs of the same login are found. Raise PermanentWorkError or TransientWorkError when it fails: whoever asks
    for it tries again later. Blocks.
    """
    seconds = options.request_seconds
    cancelled = list[str]()
    with as_work_errors():
        for state in ("pending", "running"):  # in this order: a job that begins to run in between is found
            for job in client.list_jobs(state_filter=state, retry=ONCE, timeout=seconds):
                if job.job_id.startswith(job_prefix(work_id)) and job.state != "DONE" and job.job_id not in cancelled:
                    client.cancel_job(job.job_id, retry=ONCE, timeout=seconds)
                    cancelled.append(job.job_id)
    return cancelled


def job_prefix(of_id: UUID, kind: str = "build") -> str:
    """Return the text that the ids of all jobs of a build begin with, or of another kind of thing that has jobs."""
    return f"{kind}-{of_id.hex}-"


@dataclass
class JobRunner:
    """A runner of the statements and loads of one work, with the bytes that they read and their job ids.

    A warehouse that is busy is waited for, `deadline_seconds` at most in all; `show` is called with the stage of it.
    """

    client: bigquery.Client
    work_id: UUID
    labels: Mapping[str, str]
    options: JobOptions
    control: Control = field(default_factory=Control)
    show: Callable[[str], None] = ignore
    kind: str = "build"
    bytes_processed: int = 0
    job_ids: list[str] = field(default_factory=list)

    @property
    def _about(self) -> dict[str, str]:
        return {f"{self.kind}_id": str(self.work_id)}

    def __post_init__(self) -> None:
        """Begin the time that the work may take."""
        self._pulse: Pulse = ignore
        self._patience = Patience(self.control, self.options.deadline_seconds, self.options.pauses, self._shown)

    def run(self, statement: Statement, tick: Tick) -> Iterator[Page]:
        """Run a statement to its end, and return the pages of its result, which are fetched as they are asked for.

        Both raise PermanentWorkError or TransientWorkError. A WorkCancelledError, raised by `tick` or `control`,
        cancels the job; a WorkAbandonedError does not.
        """
        return self.fetch(self.run_job(statement, tick), statement.name)

    def fetch(self, job: bigquery.QueryJob, statement: str) -> Iterator[Page]:
        """Return the pages of a job's result, fetched as they are asked for; raise as `run` does."""
        with as_work_errors():
            for page in spanned(self._fetched(job), "fetch", {"statement": statement}):
                self.control.check()
                yield page

    def run_job(self, statement: Statement, tick: Tick = ignore, destination: str | None = None) -> bigquery.QueryJob:
        """Run a statement and return its job, which has ended well. Raise as `run` does.

        Its rows go to the table `destination`, if one is named, in place of what that has: without, BigQuery takes 10
        GB of them.
        """
        with as_work_errors():
            about = {"statement": statement.name}
            with span("dry run", about):
                needed = self._within_limits(statement)
            self._pulse = partial(tick, needed)
            with span("query", about) as query_span:
                name, config = f"{statement.name}-{statement.digest()}", self._config(statement)
                if destination:
                    config.destination = destination
                    config.write_disposition = bigquery.WriteDisposition.WRITE_TRUNCATE
                query = partial(self._query, statement, config, ONCE)
                job = self._finish(Start(name, bigquery.QueryJob, query, needed))
                query_span.set_attributes({"job.id": job.job_id, "job.bytes": job.total_bytes_processed or 0})
            self.bytes_processed += job.total_bytes_processed or 0
            self.job_ids.append(job.job_id)
            self._pulse = partial(tick, 0)
        return job

    def load(self, file: Callable[[], BinaryIO], table: str, config: bigquery.LoadJobConfig) -> bigquery.LoadJob:
        """Load a file into a table and return the job, which has ended well. Raise as `run` does.

        The file is asked for unless an earlier attempt has loaded it.
        """
        config.labels = self._labels()
        load = partial(self._load, file, table, config)
        with as_work_errors(), span("load", {"table": table}) as load_span:
            job = self._finish(Start("load", bigquery.LoadJob, load, costs_much=True))
            load_span.set_attributes({"job.id": job.job_id, "job.rows": job.output_rows or 0})
        self.job_ids.append(job.job_id)
        return job

    def _shown(self, stage: str | None) -> None:
        if stage:
            self.show(stage)
        else:
            self._pulse()

    def _fetched(self, job: bigquery.QueryJob) -> Iterator[Page]:
        result = job.result(
            page_size=self.options.page_size,
            retry=self._patience,
            timeout=self.options.request_seconds,
            job_retry=None,
        )
        yield from read_pages(result)

    def estimate(self, statement: Statement) -> int:
        """Return the bytes that a statement would read, by a dry run. Raise WorkError when there is no telling."""
        with as_work_errors():
            config = self._config(statement)
            config.dry_run = True
            return self._query(statement, config, self._patience, None).total_bytes_processed or 0

    def _within_limits(self, statement: Statement) -> int:
        """Return the bytes that the statement would read; raise PermanentWorkError when these are too many."""
        needed = self.estimate(statement)
        LOG.info("statement_estimated", **self._about, statement=statement.name, bytes=needed)
        if needed > self.options.maximum_bytes_billed:
            raise PermanentWorkError(
                "bytesBilledLimitExceeded",
                f"{statement.name} would read {needed:,} bytes; the limit is {self.options.maximum_bytes_billed:,}",
            )
        return needed

    def _finish(self, start: Start[Job]) -> Job:
        """Return the job that has its result: an earlier attempt's, else one that is started.

        A job that failed for a reason that passes is followed by another one, after a pause.
        """
        pauses = self._patience.pauses()
        for number in range(1, MOST_JOBS + 1):
            job_id = f"{job_prefix(self.work_id, self.kind)}{start.name}"
            job_id += f"-{number}" if number > 1 else ""
            if start.bytes:
                self.control.admit(job_id, start.bytes)
            self._pulse()
            with self.control.cancelling(partial(self._cancel, job_id)):
                job = self._ended(start, job_id)
                if job is None:
                    continue
                failure = job_error(job.error_result) if job.error_result else None
                self._settle(job, start.bytes, failure)
                if failure is None:
                    return job
                if not isinstance(failure, WarehouseBusyError):
                    raise failure
                self._patience.wait(failure, next(pauses))
        raise TransientWorkError(JOBS_FAILED, f"{MOST_JOBS} jobs of {start.name} failed already")

    def _settle(self, job: bigquery.QueryJob | bigquery.LoadJob, expected: int, failure: WorkError | None) -> None:
        """Account for what a query has read: nothing if it failed, for that is not billed, unless it was stopped."""
        if not isinstance(job, bigquery.QueryJob) or (failure and failure.code == STOPPED):
            return
        read = 0 if failure else job.total_bytes_processed or 0
        if read != expected:
            self.control.settle(str(job.job_id), read)

    def _ended(self, start: Start[Job], job_id: str) -> Job | None:
        """Return the job of that id once it is over; None when an earlier attempt got no result from it."""
        while True:
            try:
                job = self._patience(self._start_or_adopt)(start, job_id)
                if job is not None:
                    self._wait(job)
                return job
            except NotFound as error:
                # Started again under its id: either the warehouse has lost it, or says that it is there.
                if not is_missing_job(error) or self._patience.is_over():
                    raise

    def _start_or_adopt(self, start: Start[Job], job_id: str) -> Job | None:
        """Return the job of that id; None when it has ended without a result, so that another job is needed."""
        self.control.check()
        if start.costs_much:
            with suppress(NotFound):
                return self._adopt(start.kind, job_id)
        try:
            return start.call(job_id)
        except Conflict:
            return self._adopt(start.kind, job_id)

    def _adopt(self, kind: type[Job], job_id: str) -> Job | None:
        job = self.client.get_job(job_id, retry=ONCE, timeout=self.options.request_seconds)
        if not isinstance(job, kind) or job.error_result or has_expired(job):
            return None
        LOG.info("job_adopted", **self._about, job_id=job_id, state=job.state)
        return job

    def _query(
        self, statement: Statement, config: bigquery.QueryJobConfig, retry: Retry, job_id: str | None
    ) -> bigquery.QueryJob:
        return self.client.query(
            statement.sql,
            job_config=config,
            job_id=job_id,
            retry=retry,
            timeout=self.options.request_seconds,
            job_retry=None,
        )

    def _load(
        self, file: Callable[[], BinaryIO], table: str, config: bigquery.LoadJobConfig, job_id: str
    ) -> bigquery.LoadJob:
        content = file()
        return self.client.load_table_from_file(
            content,
            table,
            size=content.seek(0, SEEK_END),
            rewind=True,
            num_retries=0,
            job_id=job_id,
            job_config=config,
            timeout=self.options.request_seconds,
        )

    def _config(self, statement: Statement) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            query_parameters=list(statement.parameters),
            maximum_bytes_billed=self.options.maximum_bytes_billed,
            labels=self._labels(),
        )

    def _labels(self) -> dict[str, str]:
        return {key: label(value) for key, value in self.labels.items()}

    def _wait(self, job: bigquery.QueryJob | bigquery.LoadJob) -> None:
        """Poll until the job is over. One that is not in time keeps running, for the next attempt to adopt."""
        pause = FIRST_POLL_SECONDS
        while not job.done(retry=self._patience, timeout=self.options.request_seconds):
            self._pulse()
            if self._patience.is_over():
                raise TransientWorkError("timeout", f"job {job.job_id} is still running after the deadline")
            self.control.wait(pause)
            pause = min(pause * POLL_GROWTH, self.options.poll_seconds)

    def _cancel(self, job_id: str) -> None:
        """Cancel a job, if there is one; the bytes that it has read until then are paid for."""
        try:
            with as_work_errors():
                self.client.cancel_job(job_id, retry=ONCE, timeout=self.options.request_seconds)
            LOG.info("job_cancelled", **self._about, job_id=job_id)
        except WorkError as error:
            log = LOG.debug if error.code == JOB_NOT_FOUND else LOG.warning
            log("job_not_cancelled", **self._about, job_id=job_id, code=error.code, message=str(error))
