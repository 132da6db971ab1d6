"""Transient errors are told from permanent ones, and have BigQuery's reason and an understandable message."""

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from requests.exceptions import ReadTimeout

from usage_service.shared.bigquery.errors import (
    PermanentWorkError,
    TransientWorkError,
    WarehouseBusyError,
    WorkCancelledError,
    WorkError,
)
from usage_service.shared.bigquery.reasons import as_work_errors, job_error, work_error


@pytest.mark.parametrize("reason", ["backendError", "internalError", "tableUnavailable"])
def test_what_may_pass_is_waited_for(reason: str) -> None:
    error = job_error({"reason": reason, "message": "busy"})
    assert isinstance(error, WarehouseBusyError)
    assert (error.code, "busy" in error.message, error.stage) == (reason, True, "waiting_for_warehouse")


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "jobRateLimitExceeded", "quotaExceeded"])
def test_a_quota_is_waited_for_by_name(reason: str) -> None:
    error = job_error({"reason": reason, "message": "busy"})
    assert isinstance(error, WarehouseBusyError)
    assert (error.code, error.stage) == (reason, "waiting_for_warehouse_quota")


def test_a_job_that_somebody_stopped_is_for_the_next_attempt() -> None:
    error = job_error({"reason": "stopped", "message": "by an admin"})
    assert type(error) is TransientWorkError


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Not found: Job moz:US.build-1", "jobNotFound"),
        ("404 GET https://x/projects/moz/jobs/a: Not found: Job moz:US.a", "jobNotFound"),
        ("404 GET https://x/projects/moz/jobs/a: Not found: Table moz:x.jobs was not found", "notFound"),
        ("Not found: Dataset moz:job was not found in location US", "notFound"),
    ],
)
def test_a_job_that_is_not_found_is_not_a_table_that_is_not_found(message: str, code: str) -> None:
    error = job_error({"reason": "notFound", "message": message})
    assert error.code == code
    assert isinstance(error, WarehouseBusyError) == (code == "jobNotFound")


@pytest.mark.parametrize(
    "reason", ["invalidQuery", "accessDenied", "bytesBilledLimitExceeded", "notFound", "responseTooLarge"]
)
def test_what_will_not_pass_is_permanent(reason: str) -> None:
    error = job_error({"reason": reason, "message": "no"})
    assert isinstance(error, PermanentWorkError)
    assert (error.code, "no" in error.message) == (reason, True)


@pytest.mark.parametrize(
    ("make", "arguments", "kind", "code"),
    [
        (exceptions.BadRequest, {"errors": [{"reason": "invalidQuery"}]}, PermanentWorkError, "invalidQuery"),
        (exceptions.Forbidden, {"errors": [{"reason": "rateLimitExceeded"}]}, WarehouseBusyError, "rateLimitExceeded"),
        (exceptions.ServiceUnavailable, {}, WarehouseBusyError, "http503"),
        (exceptions.TooManyRequests, {}, WarehouseBusyError, "http429"),
        (exceptions.Unauthorized, {}, PermanentWorkError, "http401"),
        (exceptions.RetryError, {"cause": ValueError("y")}, WarehouseBusyError, "unreachable"),
        (ReadTimeout, {}, WarehouseBusyError, "unreachable"),
        (ConnectionResetError, {}, WarehouseBusyError, "unreachable"),
        (FutureTimeoutError, {}, WarehouseBusyError, "unreachable"),
        (TransportError, {}, WarehouseBusyError, "unreachable"),
        (RefreshError, {"retryable": True}, WarehouseBusyError, "unreachable"),
        (RefreshError, {}, PermanentWorkError, "accessDenied"),
        (DefaultCredentialsError, {}, PermanentWorkError, "accessDenied"),
    ],
)
def test_each_error_of_the_client_is_sorted(
    make: Callable[..., Exception], arguments: dict[str, object], kind: type[WorkError], code: str
) -> None:
    with pytest.raises(kind) as sorted_error, as_work_errors():
        raise make("x", **arguments)
    assert sorted_error.value.code == code
    assert sorted_error.value.message


@pytest.mark.parametrize("raised", [WorkCancelledError(), ValueError("a bug"), PermanentWorkError("a", "b")])
def test_what_is_not_the_warehouses_passes_untouched(raised: Exception) -> None:
    with pytest.raises(type(raised)) as same, as_work_errors():
        raise raised
    assert same.value is raised


def test_a_token_that_cannot_be_fetched_now_is_waited_for() -> None:
    """As from a metadata server that is away: google-auth tells it by the cause only."""
    make: Callable[..., Exception] = RefreshError
    failed = make("x")
    failed.__cause__ = ConnectionResetError()
    assert isinstance(work_error(failed), WarehouseBusyError)
