"""Pipes whose reader stalls."""

from __future__ import annotations

import os
from contextlib import suppress


def fill(descriptor: int) -> int:
    """Fill a pipe, and return with how many bytes."""
    filled = 0
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            filled += os.write(descriptor, b"x" * 4096)
    os.set_blocking(descriptor, True)
    return filled
