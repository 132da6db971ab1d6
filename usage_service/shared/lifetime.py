"""The lifetime of a process: until it is asked to stop, or until a part of it dies."""

from __future__ import annotations

import asyncio
import signal


class Lifetime:
    """A lifetime that ends on SIGTERM, SIGINT, or `died`; `healthy` tells which. Make it inside the running loop."""

    def __init__(self) -> None:
        self.healthy = True
        self._over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._over.set)

    def died(self) -> None:
        """End the lifetime because a part that should never end has ended."""
        self.healthy = False
        self._over.set()

    async def wait(self) -> None:
        """Wait until the lifetime is over."""
        await self._over.wait()
