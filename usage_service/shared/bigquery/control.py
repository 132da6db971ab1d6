"""The control of a computation thread: another thread stops it wherever it waits, with its warehouse job or without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from usage_service.shared.bigquery.errors import WorkAbandonedError, WorkCancelledError

Account = Callable[[str, int], None]
"""Called with the id of a job and its bytes; blocks. `admit` raises when so many may not be read."""


def keep_no_account(job: str, size: int) -> None:
    """Do nothing: there is no limit."""


class Control:
    """The link between a computation thread, which checks and waits here, and the attempt that may stop it.

    `admit` is called with what a job is to read, before it is begun or adopted, `settle` with what it has read, where
    that is something else.
    """

    def __init__(self, admit: Account = keep_no_account, settle: Account = keep_no_account) -> None:
        self.admit = admit
        self.settle = settle
        self._changed = threading.Condition()
        self._stopped = self._cancelled = self._draining = False
        self._cancel_job: Callable[[], None] | None = None

    def abandon(self) -> None:
        """Stop the thread and leave the warehouse's job running, for the next attempt to adopt."""
        self._stop(cancelled=False)

    def drain(self) -> None:
        """Let the thread finish what it does, but not wait for a busy warehouse: there it stops as if abandoned."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Stop the thread and cancel the job that it waits for. Asks the warehouse: blocks, so call it in a thread."""
        self._stop(cancelled=True)
        if cancel_job := self._cancel_job:
            cancel_job()

    def check(self) -> None:
        """Raise WorkCancelledError or WorkAbandonedError when the thread is to stop. Called in the thread."""
        if self._stopped:
            raise WorkCancelledError if self._cancelled else WorkAbandonedError

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds; as soon as the thread is to stop, raise as `check` does. Called in the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, seconds)
        self.check()

    def pause(self, seconds: float) -> None:
        """Wait as `wait` does for a warehouse that is busy; raise WorkAbandonedError when the builder drains."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._draining, seconds)
        self.check()
        if self._draining:
            raise WorkAbandonedError

    @contextmanager
    def cancelling(self, cancel_job: Callable[[], None]) -> Iterator[None]:
        """Let a cancellation cancel this job while inside, from either thread. Entered in the computation thread.

        From either, because only the computation thread knows when the request that starts the job is through, and
        only the other one is free while it waits for an answer. `cancel_job` may be called twice, and raises nothing.
        """
        self._cancel_job = cancel_job
        try:
            yield
        except WorkCancelledError:
            cancel_job()
            raise
        finally:
            self._cancel_job = None

    def _stop(self, *, cancelled: bool) -> None:
        with self._changed:
            self._stopped = True
            self._cancelled |= cancelled
            self._changed.notify_all()
