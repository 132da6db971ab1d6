"""Stops by Ctrl-C between two steps of long work, never inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Step = TypeVar("Step")


class StoppedError(Exception):
    """A signal asked the work to stop."""


class Stop:
    """A stop: whether a signal asked for it, and whether the work is between two steps, so that it can stop at once."""

    def __init__(self) -> None:
        self._asked = False
        self._waits = False

    def between(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Give the steps. Raise StoppedError instead of the next one after a signal, also while waiting for it."""
        while not self._asked:
            self._waits = True
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                self._waits = False
            yield step
        raise StoppedError

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Ask for a stop; a second signal ends the work at once by KeyboardInterrupt."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if self._waits:
            raise StoppedError


@contextmanager
def stopping() -> Iterator[Stop]:
    """Handle SIGINT and SIGTERM in a block, in the main thread only."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
