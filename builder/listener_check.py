"""The listener check, which finds out whether notifications arrive.

A listener behind a transaction pooler connects well, but no notification ever reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import structlog

from usage_service.shared.postgres import UNAVAILABLE

CHANNEL = "builder_listener_check"
ARRIVE_SECONDS = 5.0
AGAIN_SECONDS = 60.0

log = structlog.get_logger(__name__)


class ListenerCheck:
    """A check after each connect of the listener: a notification to itself, and an error in the log if it is lost.

    It sends from another connection, because a pooler passes on what comes while the listening one runs a statement.
    """

    def __init__(self, notify: Callable[[str, str], Awaitable[None]], report: Callable[[bool], None]) -> None:
        self._notify = notify
        self._report = report
        self._connected = asyncio.Event()
        self._arrived = asyncio.Event()
        self._token = ""

    def connected(self) -> None:
        """Note that the listener has just connected."""
        self._connected.set()

    def arrived(self, token: str) -> None:
        """Note that a notification came on CHANNEL, which may be another builder's."""
        if token == self._token:
            self._arrived.set()

    async def run(self) -> None:
        """Check after each connect, and every AGAIN_SECONDS while the check fails."""
        arrives = True
        while True:
            await self._next_try(None if arrives else AGAIN_SECONDS)
            try:
                arrives = await self._arrives()
            except UNAVAILABLE:
                arrives = False
                continue
            self._report(arrives)
            if not arrives:
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
