"""BigQuery, or the embedded warehouse that has the same API: a client, and statements as jobs that can be adopted."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from google.api_core.exceptions import Conflict, NotFound
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from builder.bigquery_errors import JOB_NOT_FOUND, as_build_errors, build_error, job_error
from builder.control import Control
from builder.errors import BuildError, PermanentBuildError, TransientBuildError, WarehouseBusyError
from builder.patience import Patience, Pauses
from builder.statement import Statement
from usage_service.shared.settings import SettingsError
from usage_service.shared.tracing import span, spanned

LOG = structlog.get_logger(__name__)

ANONYMOUS: Callable[[], Credentials] = AnonymousCredentials
MOST_JOBS = 100
ONCE = Retry(predicate=lambda _: False)
FIRST_POLL_SECONDS, POLL_GROWTH = 0.02, 1.5
LABEL_LENGTH = 63
RESULT_KEPT = timedelta(hours=12)  # BigQuery keeps a result for 24 hours


def ignore(*_: object) -> None:
    """Do nothing."""


def is_missing_job(error: Exception) -> bool:
    """Return whether the warehouse did not find a job: not a table."""
    failure = build_error(error)
    return failure is not None and failure.code == JOB_NOT_FOUND


Tick = Callable[[int], None]
"""Called at every poll with the bytes that the statement reads; raises an error to stop the build."""

Pulse = Callable[[], None]


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


def has_expired(job: bigquery.QueryJob) -> bool:
    """Return whether the job ended so long ago that its result may expire while it is read."""
    ended: datetime | None = job.ended
    return ended is not None and datetime.now(UTC) - ended > RESULT_KEPT


@dataclass(frozen=True)
class JobOptions:
    """The limits of a build: bytes a statement may read, seconds the build may take, seconds a request may take."""

    maximum_bytes_billed: int = 10 * 2**40
    deadline_seconds: float = 3600.0
    request_seconds: float = 30.0
    poll_seconds: float = 2.0
    page_size: int = 20_000
    pauses: Pauses = field(default_factory=Pauses)


def stop_jobs(client: bigquery.Client, build_id: UUID, options: JobOptions) -> list[str]:
    """Cancel the unfinished jobs of a build, whichever builder started them, and return their ids.

    Only jobs of the same login are found. Raise PermanentBuildError or TransientBuildError when it fails: whoever asks
    for it tries again later. Blocks.
    """
    seconds = options.request_seconds
    cancelled = list[str]()
    with as_build_errors():
        for state in ("pending", "running"):  # in this order: a job that begins to run in between is found
            for job in client.list_jobs(state_filter=state, retry=ONCE, timeout=seconds):
                if job.job_id.startswith(job_prefix(build_id)) and job.state != "DONE" and job.job_id not in cancelled:
                    client.cancel_job(job.job_id, retry=ONCE, timeout=seconds)
                    cancelled.append(job.job_id)
    return cancelled


def job_prefix(build_id: UUID) -> str:
    """Return the text that the ids of all jobs of a build begin with."""
    return f"build-{build_id.hex}-"


@dataclass
class JobRunner:
    """A runner of one build's statements, with the bytes that they read and their job ids.

    A warehouse that is busy is waited for, `deadline_seconds` at most in all; `show` is called with the stage of it.
    """

    client: bigquery.Client
    build_id: UUID
    labels: Mapping[str, str]
    options: JobOptions
    control: Control = field(default_factory=Control)
    show: Callable[[str], None] = ignore
    bytes_processed: int = 0
    job_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the time that the build may take."""
        self._pulse: Pulse = ignore
        self._patience = Patience(self.control, self.options.deadline_seconds, self.options.pauses, self._shown)

    def run(self, statement: Statement, tick: Tick) -> Iterator[Mapping[str, Any]]:
        """Run a statement to its end, and return its rows, which are fetched by pages as they are asked for.

        Both raise PermanentBuildError or TransientBuildError. A BuildCancelledError, raised by `tick` or `control`,
        cancels the job; a BuildAbandonedError does not.
        """
        with as_build_errors():
            about = {"statement": statement.name}
            with span("dry run", about):
                needed = self._within_limits(statement)
            self.control.admit(self.bytes_processed, needed)
            self._pulse = partial(tick, needed)
            self._pulse()
            with span("query", about) as query_span:
                job = self._finish(statement)
                query_span.set_attributes({"job.id": job.job_id, "job.bytes": job.total_bytes_processed or 0})
            self.bytes_processed += job.total_bytes_processed or 0
            self.job_ids.append(job.job_id)
            self._pulse = partial(tick, 0)
        return self._rows(job, about)

    def _rows(self, job: bigquery.QueryJob, about: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        with as_build_errors():
            for row in spanned(self._fetched(job), "fetch", about):
                self.control.check()
                yield row

    def _shown(self, stage: str | None) -> None:
        if stage:
            self.show(stage)
        else:
            self._pulse()

    def _fetched(self, job: bigquery.QueryJob) -> Iterator[Mapping[str, Any]]:
        return iter(
            job.result(
                page_size=self.options.page_size,
                retry=self._patience,
                timeout=self.options.request_seconds,
                job_retry=None,
            )
        )

    def estimate(self, statement: Statement) -> int:
        """Return the bytes that a statement would read, by a dry run. Raise BuildError when there is no telling."""
        with as_build_errors():
            config = self._config(statement)
            config.dry_run = True
            return self._query(statement, config, None, self._patience).total_bytes_processed or 0

    def _within_limits(self, statement: Statement) -> int:
        """Return the bytes that the statement would read; raise PermanentBuildError when these are too many."""
        needed = self.estimate(statement)
        LOG.info("statement_estimated", build_id=str(self.build_id), statement=statement.name, bytes=needed)
        if needed > self.options.maximum_bytes_billed:
            raise PermanentBuildError(
                "bytesBilledLimitExceeded",
                f"{statement.name} would read {needed:,} bytes; the limit is {self.options.maximum_bytes_billed:,}",
            )
        return needed

    def _finish(self, statement: Statement) -> bigquery.QueryJob:
        """Return the job of the statement that has its result: an earlier attempt's, else one that is started.

        A job that failed for a reason that passes is followed by another one, after a pause.
        """
        pauses = self._patience.pauses()
        for number in range(1, MOST_JOBS + 1):
            job_id = f"{job_prefix(self.build_id)}{statement.name}-{statement.digest()}"
            job_id += f"-{number}" if number > 1 else ""
            with self.control.cancelling(partial(self._cancel, job_id)):
                job = self._ended(statement, job_id)
                if job is None:
                    continue
                if not job.error_result:
                    return job
                failure = job_error(job.error_result)
                if not isinstance(failure, WarehouseBusyError):
                    raise failure
                self._patience.wait(failure, next(pauses))
        raise TransientBuildError("jobsFailed", f"{MOST_JOBS} jobs of {statement.name} failed already")

    def _ended(self, statement: Statement, job_id: str) -> bigquery.QueryJob | None:
        """Return the job of that id once it is over; None when an earlier attempt got no result from it."""
        while True:
            try:
                job = self._patience(self._start_or_adopt)(statement, job_id)
                if job is not None:
                    self._wait(job)
                return job
            except NotFound as error:
                # Started again under its id: either the warehouse has lost it, or says that it is there.
                if not is_missing_job(error) or self._patience.is_over():
                    raise

    def _start_or_adopt(self, statement: Statement, job_id: str) -> bigquery.QueryJob | None:
        """Return the job of that id; None when it has ended without a result, so that another job is needed."""
        self.control.check()
        try:
            return self._query(statement, self._config(statement), job_id, ONCE)
        except Conflict:
            return self._adopt(job_id)

    def _adopt(self, job_id: str) -> bigquery.QueryJob | None:
        job = self.client.get_job(job_id, retry=ONCE, timeout=self.options.request_seconds)
        if not isinstance(job, bigquery.QueryJob) or job.error_result or has_expired(job):
            return None
        LOG.info("job_adopted", build_id=str(self.build_id), job_id=job_id, state=job.state)
        return job

    def _query(
        self, statement: Statement, config: bigquery.QueryJobConfig, job_id: str | None, retry: Retry
    ) -> bigquery.QueryJob:
        return self.client.query(
            statement.sql,
            job_config=config,
            job_id=job_id,
            retry=retry,
            timeout=self.options.request_seconds,
            job_retry=None,
        )

    def _config(self, statement: Statement) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            query_parameters=list(statement.parameters),
            maximum_bytes_billed=self.options.maximum_bytes_billed,
            labels={key: label(value) for key, value in self.labels.items()},
        )

    def _wait(self, job: bigquery.QueryJob) -> None:
        """Poll until the job is over. One that is not in time keeps running, for the next attempt to adopt."""
        pause = FIRST_POLL_SECONDS
        while not job.done(retry=self._patience, timeout=self.options.request_seconds):
            self._pulse()
            if self._patience.is_over():
                raise TransientBuildError("timeout", f"job {job.job_id} is still running after the deadline")
            self.control.wait(pause)
            pause = min(pause * POLL_GROWTH, self.options.poll_seconds)

    def _cancel(self, job_id: str) -> None:
        """Cancel a job, if there is one; the bytes that it has read until then are paid for."""
        try:
            with as_build_errors():
                self.client.cancel_job(job_id, retry=ONCE, timeout=self.options.request_seconds)
            LOG.info("job_cancelled", build_id=str(self.build_id), job_id=job_id)
        except BuildError as error:
            log = LOG.debug if error.code == JOB_NOT_FOUND else LOG.warning
            log("job_not_cancelled", build_id=str(self.build_id), job_id=job_id, code=error.code, message=str(error))
