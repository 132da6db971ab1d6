"""Translation of BigQuery's errors: into those that are waited for, those of the attempt, and permanent ones."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth import exceptions as auth
from requests.exceptions import RequestException

from usage_service.shared.bigquery.errors import (
    WAITING_FOR_QUOTA,
    WAITING_FOR_WAREHOUSE,
    PermanentWorkError,
    TransientWorkError,
    WarehouseBusyError,
    WorkError,
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
    "accessDenied": "The login may not use this table",
    "bytesBilledLimitExceeded": "The query would read more than may be paid for",
    "invalidQuery": "The warehouse refused the query, for instance because the probe has no column",
    "notFound": "The warehouse has no such table or dataset",
    JOB_NOT_FOUND: "The warehouse does not find the job that it was given",
    "stopped": "The job was cancelled in the warehouse",
}
UNREACHABLE = (RequestException, auth.TransportError, auth.TimeoutError, ConnectionError, FutureTimeoutError)


@contextmanager
def as_work_errors() -> Iterator[None]:
    """Raise PermanentWorkError or TransientWorkError in place of the errors of the BigQuery client."""
    try:
        yield
    except Exception as error:
        failure = work_error(error)
        if failure is None or failure is error:
            raise
        raise failure from error


def work_error(error: Exception) -> WorkError | None:
    """Return the error for an error of the BigQuery client; None for one that is not the client's."""
    if isinstance(error, WorkError):
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


def _credentials_error(error: auth.GoogleAuthError) -> WorkError:
    if error.retryable or isinstance(error.__cause__, UNREACHABLE):
        return WarehouseBusyError("unreachable", f"The credentials for the warehouse cannot be renewed now: {error}")
    return PermanentWorkError("accessDenied", f"No valid credentials for the warehouse: {error}")


def call_error(error: GoogleAPICallError) -> WorkError:
    """Return the error for a request that was answered with an error."""
    details = [detail for detail in error.errors if isinstance(detail, Mapping) and detail.get("reason")]
    if details:
        return job_error({"message": str(error.message), **details[0]})
    code, message = int(error.code or 0), str(error.message)
    if code == 429:
        return WarehouseBusyError("http429", message, WAITING_FOR_QUOTA)
    if code == 408 or code >= 500:
        return WarehouseBusyError(f"http{code}", message)
    return PermanentWorkError(f"http{code}", message)


def job_error(result: Mapping[str, str]) -> WorkError:
    """Return the error for BigQuery's error object; its `reason` tells what helps: waiting, another try, nothing.

    A job that is not found is not a table that is not found.
    """
    reason, message = result.get("reason", "unknown"), result.get("message", "")
    if reason == "notFound" and MISSING_JOB.search(message):
        reason = JOB_NOT_FOUND
    text = f"{EXPLANATIONS[reason]}: {message}" if reason in EXPLANATIONS else message
    if reason in BUSY_REASONS:
        return WarehouseBusyError(reason, text, WAITING_FOR_QUOTA if reason in QUOTA_REASONS else WAITING_FOR_WAREHOUSE)
    return (TransientWorkError if reason in TRANSIENT_REASONS else PermanentWorkError)(reason, text)
