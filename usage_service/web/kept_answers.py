"""Answers that are kept, up to so many bytes, and computed once for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from usage_service.web.answers import Body

Shared = TypeVar("Shared")

OVERHEAD_BYTES = 512  # of an answer's key and objects, roughly


class Kept:
    """The bodies that were used last, by a key that changes with them."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bodies: OrderedDict[str, Body] = OrderedDict()
        self.bytes = 0

    def get(self, key: str) -> Body | None:
        """The body, if it is still kept."""
        if key not in self._bodies:
            return None
        self._bodies.move_to_end(key)
        return self._bodies[key]

    def put(self, key: str, body: Body) -> None:
        """Keeps a body; the ones unused for longest go, and one that is larger than all that may be kept is not."""
        if key in self._bodies or _size(body) > self._most_bytes:
            return
        self._bodies[key] = body
        self.bytes += _size(body)
        while self.bytes > self._most_bytes:
            self.bytes -= _size(self._bodies.popitem(last=False)[1])


def _size(body: Body) -> int:
    return len(body.data) + OVERHEAD_BYTES


class Flights(Generic[Shared]):
    """Who asks for what is being computed just now waits for it; a failure is only that of the one who computed."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Shared | None]] = {}

    async def share(self, key: str, compute: Callable[[], Awaitable[Shared]]) -> Shared:
        """What `compute` gives, ours or that of somebody before us; raises what ours raises."""
        while (flight := self._under_way.get(key)) is not None:
            landed = await asyncio.shield(flight)  # our cancellation is not theirs
            if landed is not None:
                return landed
        flight = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            computed = await compute()
            flight.set_result(computed)
        finally:
            del self._under_way[key]
            if not flight.done():
                flight.set_result(None)  # whoever waits computes it anew
        return computed
