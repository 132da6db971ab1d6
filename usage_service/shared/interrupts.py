"""Ctrl-C while a program loads what it runs: it ends at once, and without a traceback.

Nothing but the standard library is imported here, and little of that: it is in place before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def end_when_interrupted() -> None:
    """End the process at SIGINT from now on, unless it ignores that, as a job in the background does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_when_interrupted() -> None:
    """Raise KeyboardInterrupt at SIGINT again: what runs now may have something to put in order."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    # An exception would be printed, and be lost in a callback of the import system.
    os._exit(INTERRUPTED)
