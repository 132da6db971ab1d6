"""Translation of BigQuery's errors into transient and permanent build errors."""

from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import RequestException

from builder.errors import BuildError, PermanentBuildError, TransientBuildError

# https://cloud.google.com/bigquery/docs/error-messages
TRANSIENT_REASONS = frozenset({
    "backendError", "badGateway", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded",
    "quotaExceeded", "rateLimitExceeded", "stopped", "tableUnavailable", "timeout",
})  # fmt: skip

EXPLANATIONS = {
    "accessDenied": "The builder may not read this table",
    "bytesBilledLimitExceeded": "The query would read more than the builder may pay for",
    "invalidQuery": "The warehouse refused the query, for instance because the probe has no column",
    "notFound": "The warehouse has no such table or job",
    "stopped": "The job was cancelled in the warehouse",
}


@contextmanager
def as_build_errors() -> Iterator[None]:
    """Raise PermanentBuildError or TransientBuildError in place of the errors of the BigQuery client."""
    try:
        yield
    except RetryError as error:
        raise TransientBuildError("unreachable", f"The warehouse did not answer in time: {error}") from error
    except GoogleAPICallError as error:
        raise call_error(error) from error
    except (RequestException, TransportError, ConnectionError, FutureTimeoutError) as error:
        raise TransientBuildError("unreachable", f"The warehouse cannot be reached: {error}") from error
    except GoogleAuthError as error:
        raise PermanentBuildError("accessDenied", f"No valid credentials for the warehouse: {error}") from error


def call_error(error: GoogleAPICallError) -> BuildError:
    """Return the build error of a request that was answered with an error."""
    details = [detail for detail in error.errors if isinstance(detail, Mapping) and detail.get("reason")]
    if details:
        return job_error({"message": str(error.message), **details[0]})
    code = int(error.code or 0)
    kind = TransientBuildError if code in {408, 429} or code >= 500 else PermanentBuildError
    return kind(f"http{code}", str(error.message))


def job_error(result: Mapping[str, str]) -> BuildError:
    """Return the build error of BigQuery's error object; its `reason` decides whether it is transient."""
    reason = result.get("reason", "unknown")
    message = result.get("message", "")
    kind = TransientBuildError if reason in TRANSIENT_REASONS else PermanentBuildError
    return kind(reason, f"{EXPLANATIONS[reason]}: {message}" if reason in EXPLANATIONS else message)
