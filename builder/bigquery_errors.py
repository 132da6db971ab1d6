"""Translation of BigQuery's errors: into those that are waited for, those of the attempt, and permanent ones."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth import exceptions as auth
from requests.exceptions import RequestException

from builder.errors import (
    WAITING_FOR_QUOTA,
    WAITING_FOR_WAREHOUSE,
    BuildError,
    PermanentBuildError,
    TransientBuildError,
    WarehouseBusyError,
)

JOB_NOT_FOUND = "jobNotFound"

# https://cloud.google.com/bigquery/docs/error-messages
QUOTA_REASONS = frozenset({"jobRateLimitExceeded", "quotaExceeded", "rateLimitExceeded"})
BUSY_REASONS = QUOTA_REASONS | {
    JOB_NOT_FOUND, "backendError", "badGateway", "internalError", "jobBackendError", "jobInternalError",
    "tableUnavailable",
}  # fmt: skip
TRANSIENT_REASONS = frozenset({"stopped", "timeout"})
MISSING_JOB = re.compile(r"\bnot found: job\b", re.IGNORECASE)

EXPLANATIONS = {
    "accessDenied": "The builder may not read this table",
    "bytesBilledLimitExceeded": "The query would read more than the builder may pay for",
    "invalidQuery": "The warehouse refused the query, for instance because the probe has no column",
    "notFound": "The warehouse has no such table or dataset",
    JOB_NOT_FOUND: "The warehouse does not find the job that it was given",
    "stopped": "The job was cancelled in the warehouse",
}
UNREACHABLE = (RequestException, auth.TransportError, auth.TimeoutError, ConnectionError, FutureTimeoutError)


@contextmanager
def as_build_errors() -> Iterator[None]:
    """Raise PermanentBuildError or TransientBuildError in place of the errors of the BigQuery client."""
    try:
        yield
    except Exception as error:
        failure = build_error(error)
        if failure is None or failure is error:
            raise
        raise failure from error


def build_error(error: Exception) -> BuildError | None:
    """Return the build error of an error of the BigQuery client; None for one that is not the client's."""
    if isinstance(error, BuildError):
        return error
    if isinstance(error, GoogleAPICallError):
        return call_error(error)
    if isinstance(error, RetryError):
        return WarehouseBusyError("unreachable", f"The warehouse did not answer in time: {error}")
    if isinstance(error, UNREACHABLE):
        return WarehouseBusyError("unreachable", f"The warehouse cannot be reached: {error}")
    if isinstance(error, auth.GoogleAuthError):
        return _credentials_error(error)
    return None


def _credentials_error(error: auth.GoogleAuthError) -> BuildError:
    if error.retryable or isinstance(error.__cause__, UNREACHABLE):
        return WarehouseBusyError("unreachable", f"The credentials for the warehouse cannot be renewed now: {error}")
    return PermanentBuildError("accessDenied", f"No valid credentials for the warehouse: {error}")


def call_error(error: GoogleAPICallError) -> BuildError:
    """Return the build error of a request that was answered with an error."""
    details = [detail for detail in error.errors if isinstance(detail, Mapping) and detail.get("reason")]
    if details:
        return job_error({"message": str(error.message), **details[0]})
    code, message = int(error.code or 0), str(error.message)
    if code == 429:
        return WarehouseBusyError("http429", message, WAITING_FOR_QUOTA)
    if code == 408 or code >= 500:
        return WarehouseBusyError(f"http{code}", message)
    return PermanentBuildError(f"http{code}", message)


def job_error(result: Mapping[str, str]) -> BuildError:
    """Return the build error of BigQuery's error object; its `reason` tells what helps: waiting, another try, nothing.

    A job that is not found is not a table that is not found.
    """
    reason, message = result.get("reason", "unknown"), result.get("message", "")
    if reason == "notFound" and MISSING_JOB.search(message):
        reason = JOB_NOT_FOUND
    text = f"{EXPLANATIONS[reason]}: {message}" if reason in EXPLANATIONS else message
    if reason in BUSY_REASONS:
        return WarehouseBusyError(reason, text, WAITING_FOR_QUOTA if reason in QUOTA_REASONS else WAITING_FOR_WAREHOUSE)
    return (TransientBuildError if reason in TRANSIENT_REASONS else PermanentBuildError)(reason, text)
