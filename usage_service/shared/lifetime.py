"""The lifetime of a process: until it is asked to stop, or until a part of it dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine


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

    async def completes(self, work: Coroutine[object, object, object]) -> bool:
        """Return whether work was done before the lifetime was over, else cancel it. Raise what it raises."""
        working, ending = asyncio.create_task(work), asyncio.create_task(self.wait())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        if working.cancelled():
            return False
        working.result()
        return True

    async def wait(self) -> None:
        """Wait until the lifetime is over."""
        await self._over.wait()
