"""Cache of answers, bounded by their bytes, and single flight for answers that several requests ask for at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from usage_service.web.answers import Body

Shared = TypeVar("Shared")

OVERHEAD_BYTES = 512  # of an answer's key and objects, roughly


class AnswerCache:
    """Bodies of answers by their entity tags; the least recently used are dropped first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bodies: OrderedDict[str, Body] = OrderedDict()
        self.bytes = 0

    def get(self, key: str) -> Body | None:
        """Return the body of a key, or None when it is not cached."""
        if key not in self._bodies:
            return None
        self._bodies.move_to_end(key)
        return self._bodies[key]

    def put(self, key: str, body: Body) -> None:
        """Cache a body, and drop the least recently used ones; a body larger than the whole cache is not cached."""
        if key in self._bodies or _size(body) > self._most_bytes:
            return
        self._bodies[key] = body
        self.bytes += _size(body)
        while self.bytes > self._most_bytes:
            self.bytes -= _size(self._bodies.popitem(last=False)[1])


def _size(body: Body) -> int:
    return len(body.data) + OVERHEAD_BYTES


class SingleFlight(Generic[Shared]):
    """Calls under way by key, so that one call answers all who ask for its key meanwhile. Failures are not shared."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Shared | None]] = {}

    async def share(self, key: str, call: Callable[[], Awaitable[Shared]]) -> Shared:
        """Return the result of the call under way for the key, or make the call; raise what our own call raises."""
        while (flight := self._under_way.get(key)) is not None:
            landed = await asyncio.shield(flight)  # our cancellation must not cancel the others' call
            if landed is not None:
                return landed
        flight = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            result = await call()
            flight.set_result(result)
        finally:
            del self._under_way[key]
            if not flight.done():
                flight.set_result(None)  # the call failed: the next one who waits makes it again
        return result
