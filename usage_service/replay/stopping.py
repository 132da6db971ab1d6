"""Ctrl-C between two steps of long work, never inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Step = TypeVar("Step")


class StoppedError(Exception):
    """The work was told to stop."""


class Stop:
    """Whether the work was told to stop, and whether it waits for its next step, so that it can right away."""

    def __init__(self) -> None:
        self._asked = False
        self._waits = False

    def between(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps; raises StoppedError instead of the next one, also while it is waited for."""
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
        """Asks for a stop; a second time ends the work where it is."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if self._waits:
            raise StoppedError


@contextmanager
def stopping() -> Iterator[Stop]:
    """What SIGINT and SIGTERM tell inside; outside the main thread nothing does."""
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
