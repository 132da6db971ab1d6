"""Proves that notifications arrive: a listener behind a transaction pooler connects well and never hears anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import structlog

from usage_service.shared.postgres import UNAVAILABLE

CHANNEL = "builder_hearing"
ARRIVE_SECONDS = 5.0
AGAIN_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Hearing:
    """Sends itself a notification after each connect, from another connection; says so when it does not arrive.

    From another connection, because a pooler passes on what comes while the listening one has a statement under way.
    """

    def __init__(self, notify: Callable[[str, str], Awaitable[None]], tell: Callable[[bool], None]) -> None:
        self._notify = notify
        self._tell = tell
        self._connected = asyncio.Event()
        self._arrived = asyncio.Event()
        self._token = ""

    def connected(self) -> None:
        """Says that the listener has just connected."""
        self._connected.set()

    def heard(self, token: str) -> None:
        """Says that a notification came on CHANNEL, be it another builder's."""
        if token == self._token:
            self._arrived.set()

    async def run(self) -> None:
        """Tries after each connect, and again and again while it fails."""
        hears = True
        while True:
            await self._next_try(None if hears else AGAIN_SECONDS)
            try:
                hears = await self._arrives()
            except UNAVAILABLE:
                hears = False
                continue
            self._tell(hears)
            if not hears:
                log.error(
                    "notifications_do_not_arrive",
                    hint="set LISTEN_DATABASE_URL to a direct address of the same database: LISTEN does not work "
                    "through a transaction pooler. Until then builds are found by polling.",
                )

    async def _next_try(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            return
        self._connected.clear()

    async def _arrives(self) -> bool:
        self._token = uuid4().hex
        self._arrived.clear()
        await self._notify(CHANNEL, self._token)
        try:
            async with asyncio.timeout(ARRIVE_SECONDS):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True
