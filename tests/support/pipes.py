"""Pipes whose reader stalls, and pipes that are read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


def fill(descriptor: int) -> int:
    """Fill a pipe, and return with how many bytes."""
    filled = 0
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            filled += os.write(descriptor, b"x" * 4096)
    os.set_blocking(descriptor, True)
    return filled


@asynccontextmanager
async def read_pipe(path: Path) -> AsyncIterator[list[bytes]]:
    """Make a named pipe, and collect what is written to it."""
    os.mkfifo(path)
    # The other end opens at once. Waiting for it would never end where the pipe is replaced rather than written to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    loop, pieces = asyncio.get_running_loop(), list[bytes]()

    def read() -> None:
        with suppress(BlockingIOError):
            while piece := os.read(descriptor, 65_536):
                pieces.append(piece)
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, read)
    try:
        yield pieces
        read()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
