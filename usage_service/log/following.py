"""Waiting for something to grow: the log, or what is folded of it."""

from __future__ import annotations

import asyncio

POLL_SECONDS = 1.0


class Tail:
    """Lets any number of readers wait; `wake` says that there may be more."""

    def __init__(self) -> None:
        self._grown = asyncio.Event()

    @property
    def signal(self) -> asyncio.Event:
        """What the next `wake` sets. Take it before you look: growth between looking and waiting is then not missed."""
        return self._grown

    def wake(self) -> None:
        """Lets all who wait look again."""
        self._grown.set()
        self._grown = asyncio.Event()


async def wait_for_growth(signal: asyncio.Event, seconds: float) -> None:
    """Returns once the signal is set, or after `seconds`, or after a second: a hint may be lost."""
    try:
        async with asyncio.timeout(min(seconds, POLL_SECONDS)):
            await signal.wait()
    except TimeoutError:
        return
