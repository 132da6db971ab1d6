"""A signal that something has grown: the log, or the positions that projections have folded."""

from __future__ import annotations

import asyncio

POLL_SECONDS = 1.0


class GrowthSignal:
    """A signal for any number of readers; `wake` says that there may be more to read."""

    def __init__(self) -> None:
        self._grown = asyncio.Event()

    @property
    def signal(self) -> asyncio.Event:
        """Return the event that the next `wake` sets; take it before reading, so that no growth is missed."""
        return self._grown

    def wake(self) -> None:
        """Wake all readers that wait."""
        self._grown.set()
        self._grown = asyncio.Event()


async def wait_for_growth(signal: asyncio.Event, seconds: float) -> None:
    """Wait until the signal is set, for `seconds` and for a second at most: a notification may be lost."""
    try:
        async with asyncio.timeout(min(seconds, POLL_SECONDS)):
            await signal.wait()
    except TimeoutError:
        return
