"""BigQuery, or the embedded warehouse that has the same API: a client, and statements as jobs that can be adopted."""

import re
import time
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
from google.cloud.bigquery.retry import DEFAULT_RETRY

from builder.bigquery_errors import as_build_errors, job_error
from builder.control import Control
from builder.errors import BuildError, PermanentBuildError, TransientBuildError
from builder.statement import Statement
from usage_service.shared.settings import SettingsError
from usage_service.shared.tracing import span, spanned

LOG = structlog.get_logger(__name__)

ANONYMOUS: Callable[[], Credentials] = AnonymousCredentials
MOST_ADOPTIONS = 10
FIRST_POLL_SECONDS, POLL_GROWTH = 0.02, 1.5
LABEL_LENGTH = 63
RESULT_KEPT = timedelta(hours=12)  # BigQuery keeps a result for 24 hours

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
    """The limits of a statement: bytes it may read, seconds until it is given up, seconds a request may take."""

    maximum_bytes_billed: int = 10 * 2**40
    deadline_seconds: float = 3600.0
    request_seconds: float = 30.0
    retry_seconds: float = 60.0
    poll_seconds: float = 2.0
    page_size: int = 20_000

    @property
    def retry(self) -> Retry:
        """Return the retries of one request, which end after `retry_seconds`."""
        return DEFAULT_RETRY.with_timeout(self.retry_seconds)


def stop_jobs(client: bigquery.Client, build_id: UUID, options: JobOptions) -> list[str]:
    """Cancel the unfinished jobs of a build, whichever builder started them, and return their ids.

    Only jobs of the same login are found. Raise PermanentBuildError or TransientBuildError when it fails. Blocks.
    """
    retry, seconds = options.retry, options.request_seconds
    cancelled = list[str]()
    with as_build_errors():
        for state in ("pending", "running"):  # in this order: a job that begins to run in between is found
            for job in client.list_jobs(state_filter=state, retry=retry, timeout=seconds):
                if job.job_id.startswith(job_prefix(build_id)) and job.state != "DONE" and job.job_id not in cancelled:
                    client.cancel_job(job.job_id, retry=retry, timeout=seconds)
                    cancelled.append(job.job_id)
    return cancelled


def job_prefix(build_id: UUID) -> str:
    """Return the text that the ids of all jobs of a build begin with."""
    return f"build-{build_id.hex}-"


@dataclass
class JobRunner:
    """A runner of one build's statements, with the bytes that they read and their job ids."""

    client: bigquery.Client
    build_id: UUID
    labels: Mapping[str, str]
    options: JobOptions
    control: Control = field(default_factory=Control)
    bytes_processed: int = 0
    job_ids: list[str] = field(default_factory=list)

    def run(self, statement: Statement, tick: Tick) -> Iterator[Mapping[str, Any]]:
        """Run a statement and yield its rows, fetched by pages. Raise PermanentBuildError or TransientBuildError.

        A BuildCancelledError, raised by `tick` or `control`, cancels the job; a BuildAbandonedError does not.
        """
        with as_build_errors():
            about = {"statement": statement.name}
            with span("dry run", about):
                needed = self._estimate(statement)
            self.control.admit(self.bytes_processed, needed)
            tick(needed)
            with span("query", about) as query_span:
                job = self._finish(statement, partial(tick, needed))
                query_span.set_attributes({"job.id": job.job_id, "job.bytes": job.total_bytes_processed or 0})
            self.bytes_processed += job.total_bytes_processed or 0
            self.job_ids.append(job.job_id)
            for row in spanned(self._fetched(job), "fetch", about):
                self.control.check()
                yield row

    def _fetched(self, job: bigquery.QueryJob) -> Iterator[Mapping[str, Any]]:
        return iter(
            job.result(
                page_size=self.options.page_size,
                retry=self.options.retry,
                timeout=self.options.request_seconds,
                job_retry=None,
            )
        )

    def _estimate(self, statement: Statement) -> int:
        """Return the bytes that the statement would read, by a dry run; raise PermanentBuildError when too many."""
        config = self._config(statement)
        config.dry_run = True
        needed = self._query(statement, config, None).total_bytes_processed or 0
        LOG.info("statement_estimated", build_id=str(self.build_id), statement=statement.name, bytes=needed)
        if needed > self.options.maximum_bytes_billed:
            raise PermanentBuildError(
                "bytesBilledLimitExceeded",
                f"{statement.name} would read {needed:,} bytes; the limit is {self.options.maximum_bytes_billed:,}",
            )
        return needed

    def _finish(self, statement: Statement, pulse: Pulse) -> bigquery.QueryJob:
        """Return the finished job of the statement: adopt it where an earlier attempt started it, else start it."""
        for number in range(1, MOST_ADOPTIONS + 1):
            job_id = f"{job_prefix(self.build_id)}{statement.name}-{statement.digest()}"
            job_id += f"-{number}" if number > 1 else ""
            with self.control.cancelling(partial(self._cancel, job_id)):
                job = self._start_or_adopt(statement, job_id)
                if job is not None:
                    self._wait(job, pulse)
                    return job
        raise TransientBuildError("jobsFailed", f"{MOST_ADOPTIONS} jobs of {statement.name} failed already")

    def _start_or_adopt(self, statement: Statement, job_id: str) -> bigquery.QueryJob | None:
        """Return the job of that id; None when it has ended without a result, so that another job is needed."""
        self.control.check()
        try:
            return self._query(statement, self._config(statement), job_id)
        except Conflict:
            return self._adopt(job_id)

    def _adopt(self, job_id: str) -> bigquery.QueryJob | None:
        try:
            job = self.client.get_job(job_id, retry=self.options.retry, timeout=self.options.request_seconds)
        except NotFound:
            return None
        if not isinstance(job, bigquery.QueryJob) or job.error_result or has_expired(job):
            return None
        LOG.info("job_adopted", build_id=str(self.build_id), job_id=job_id, state=job.state)
        return job

    def _query(self, statement: Statement, config: bigquery.QueryJobConfig, job_id: str | None) -> bigquery.QueryJob:
        return self.client.query(
            statement.sql,
            job_config=config,
            job_id=job_id,
            retry=self.options.retry,
            timeout=self.options.request_seconds,
            job_retry=None,
        )

    def _config(self, statement: Statement) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            query_parameters=list(statement.parameters),
            maximum_bytes_billed=self.options.maximum_bytes_billed,
            labels={key: label(value) for key, value in self.labels.items()},
        )

    def _wait(self, job: bigquery.QueryJob, pulse: Pulse) -> None:
        """Poll until the job is done. A job past the deadline keeps running, for the next attempt to adopt."""
        deadline = time.monotonic() + self.options.deadline_seconds
        pause = FIRST_POLL_SECONDS
        while not job.done(retry=self.options.retry, timeout=self.options.request_seconds):
            pulse()
            if time.monotonic() > deadline:
                raise TransientBuildError("timeout", f"job {job.job_id} is still running after the deadline")
            self.control.wait(pause)
            pause = min(pause * POLL_GROWTH, self.options.poll_seconds)
        if job.error_result:
            raise job_error(job.error_result)

    def _cancel(self, job_id: str) -> None:
        """Cancel a job, if there is one; the bytes that it has read until then are paid for."""
        try:
            with as_build_errors():
                self.client.cancel_job(job_id, retry=self.options.retry, timeout=self.options.request_seconds)
            LOG.info("job_cancelled", build_id=str(self.build_id), job_id=job_id)
        except BuildError as error:
            log = LOG.debug if error.code == "notFound" else LOG.warning
            log("job_not_cancelled", build_id=str(self.build_id), job_id=job_id, code=error.code, message=str(error))
