"""Transient errors are told from permanent ones, and have BigQuery's reason and an understandable message."""

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, TransportError
from requests.exceptions import ReadTimeout

from builder.bigquery_errors import as_build_errors, job_error
from builder.errors import BuildCancelledError, BuildError, PermanentBuildError, TransientBuildError


@pytest.mark.parametrize(
    "reason", ["backendError", "internalError", "rateLimitExceeded", "jobRateLimitExceeded", "quotaExceeded", "stopped"]
)
def test_what_may_pass_is_transient(reason: str) -> None:
    error = job_error({"reason": reason, "message": "busy"})
    assert isinstance(error, TransientBuildError)
    assert (error.code, "busy" in error.message) == (reason, True)


@pytest.mark.parametrize(
    "reason", ["invalidQuery", "accessDenied", "bytesBilledLimitExceeded", "notFound", "responseTooLarge"]
)
def test_what_will_not_pass_is_permanent(reason: str) -> None:
    error = job_error({"reason": reason, "message": "no"})
    assert isinstance(error, PermanentBuildError)
    assert (error.code, "no" in error.message) == (reason, True)


@pytest.mark.parametrize(
    ("make", "arguments", "kind", "code"),
    [
        (exceptions.BadRequest, {"errors": [{"reason": "invalidQuery"}]}, PermanentBuildError, "invalidQuery"),
        (exceptions.Forbidden, {"errors": [{"reason": "rateLimitExceeded"}]}, TransientBuildError, "rateLimitExceeded"),
        (exceptions.ServiceUnavailable, {}, TransientBuildError, "http503"),
        (exceptions.TooManyRequests, {}, TransientBuildError, "http429"),
        (exceptions.Unauthorized, {}, PermanentBuildError, "http401"),
        (exceptions.RetryError, {"cause": ValueError("y")}, TransientBuildError, "unreachable"),
        (ReadTimeout, {}, TransientBuildError, "unreachable"),
        (ConnectionResetError, {}, TransientBuildError, "unreachable"),
        (FutureTimeoutError, {}, TransientBuildError, "unreachable"),
        (TransportError, {}, TransientBuildError, "unreachable"),
        (DefaultCredentialsError, {}, PermanentBuildError, "accessDenied"),
    ],
)
def test_each_error_of_the_client_is_sorted(
    make: Callable[..., Exception], arguments: dict[str, object], kind: type[BuildError], code: str
) -> None:
    with pytest.raises(kind) as sorted_error, as_build_errors():
        raise make("x", **arguments)
    assert sorted_error.value.code == code
    assert sorted_error.value.message


@pytest.mark.parametrize("raised", [BuildCancelledError(), ValueError("a bug"), PermanentBuildError("a", "b")])
def test_what_is_not_the_warehouses_passes_untouched(raised: Exception) -> None:
    with pytest.raises(type(raised)) as same, as_build_errors():
        raise raised
    assert same.value is raised
