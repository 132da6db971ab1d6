"""Patience with the warehouse: a request that it cannot serve now is made again, within the work's own time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

import structlog
from google.api_core.retry import Retry, exponential_sleep_generator

from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import TransientWorkError, WarehouseBusyError
from usage_service.shared.bigquery.reasons import JOB_NOT_FOUND, work_error

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class Pauses(NamedTuple):
    """The seconds between tries, those after which a wait is shown, and those for which a new job may not be found."""

    first: float = 1.0
    longest: float = 60.0
    shown_after: float = 3.0
    job_seen: float = 10.0


class Patience(Retry):
    """A retry for the BigQuery client that lasts as long as the work may, and pauses where the work can be stopped.

    The client's own retries sleep where nobody wakes them. Pauses grow exponentially, with full jitter. `show` is
    called with the stage of a wait that is not over soon, and with None when the warehouse answers again.
    """

    def __init__(self, control: Control, seconds: float, pauses: Pauses, show: Callable[[str | None], None]) -> None:
        super().__init__()
        self._control = control
        self._begun = time.monotonic()
        self._seconds = seconds
        self._pauses = pauses
        self._show = show
        self._waits_since: float | None = None
        self._shown = False

    def __call__(
        self, func: Callable[Parameters, Answer], on_error: Callable[[Exception], object] | None = None
    ) -> Callable[Parameters, Answer]:
        """Return a function that calls `func` until it answers, and raises what waiting does not help against.

        BigQuery finds a job only a moment after it was inserted: one that is not found is waited for, but not for long.
        """

        @wraps(func)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
            pauses, begun = self.pauses(), time.monotonic()
            while True:
                try:
                    answer = func(*args, **kwargs)
                except Exception as error:
                    failure = work_error(error)
                    if not isinstance(failure, WarehouseBusyError):
                        raise
                    if failure.code == JOB_NOT_FOUND and time.monotonic() - begun > self._pauses.job_seen:
                        raise
                    self.wait(failure, next(pauses))
                else:
                    self._answered()
                    return answer

        return call

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before the second try, the third, and so on."""
        yield from exponential_sleep_generator(self._pauses.first, self._pauses.longest)

    def is_over(self) -> bool:
        """Return whether the work has taken as long as it may."""
        return time.monotonic() - self._begun > self._seconds

    def wait(self, failure: WarehouseBusyError, pause: float) -> None:
        """Wait for so many seconds because of the failure; raise TransientWorkError when the time is over."""
        now = time.monotonic()
        if self._waits_since is None:
            self._waits_since = now
        waited = now - self._waits_since
        if self.is_over():
            raise TransientWorkError(failure.code, f"{failure.message} (waited for {waited:.1f} s)") from failure
        log.warning("warehouse_busy", code=failure.code, message=failure.message, waits_seconds=round(pause, 1))
        if waited + pause > self._pauses.shown_after:
            self._shown = True
            self._show(failure.stage)
        self._control.pause(pause)

    def _answered(self) -> None:
        self._waits_since = None
        if self._shown:
            self._shown = False
            self._show(None)
