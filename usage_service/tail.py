"""Waiting for the log to grow."""

from __future__ import annotations

import asyncio

POLL_SECONDS = 1.0


class Tail:
    """Lets any number of readers wait; `wake` says that the log may have grown."""

    def __init__(self) -> None:
        self._grown = asyncio.Event()

    def wake(self) -> None:
        """Lets all who wait look again."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Returns when the log may have grown, or after `seconds`, or after a second: a hint may be lost."""
        try:
            async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                await self._grown.wait()
        except TimeoutError:
            return
