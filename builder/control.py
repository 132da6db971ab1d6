"""Stops a computation from another thread: wherever it waits, with its warehouse job or without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from builder.errors import BuildAbandonedError, BuildCancelledError

Admit = Callable[[int, int], None]
"""Told the bytes read so far and those that the next statement needs; blocks, and raises where they are too many."""


def admit_all(read: int, needed: int) -> None:
    """No limit."""


class Control:
    """Between a computation's thread, which checks and waits here, and who watches over it, who stops it from here."""

    def __init__(self, admit: Admit = admit_all) -> None:
        self.admit = admit
        self._stopped = threading.Event()
        self._cancelled = False
        self._cancel_job: Callable[[], None] | None = None

    def abandon(self) -> None:
        """Stops the thread and leaves the warehouse's job running, for the next attempt to adopt."""
        self._stopped.set()

    def cancel(self) -> None:
        """Stops the thread and cancels the job that it waits for. Asks the warehouse: blocks, so call in a thread."""
        self._cancelled = True
        self._stopped.set()
        if cancel_job := self._cancel_job:
            cancel_job()

    def check(self) -> None:
        """In the thread: raises BuildCancelledError or BuildAbandonedError when it is to stop."""
        if self._stopped.is_set():
            raise BuildCancelledError if self._cancelled else BuildAbandonedError

    def wait(self, seconds: float) -> None:
        """In the thread: waits, less when it is to stop, and then raises."""
        self._stopped.wait(seconds)
        self.check()

    @contextmanager
    def cancelling(self, cancel_job: Callable[[], None]) -> Iterator[None]:
        """In the thread: while inside, a cancellation cancels this job, from either thread.

        Both, because only the thread knows when a request that starts the job is through, and only the other one is
        free while this one waits for an answer. `cancel_job` may be called twice, and raises nothing.
        """
        self._cancel_job = cancel_job
        try:
            yield
        except BuildCancelledError:
            cancel_job()
            raise
        finally:
            self._cancel_job = None
