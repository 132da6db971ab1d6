"""A connection that LISTENs, checks that it is alive, and connects again when it is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from usage_service.shared.connecting import AddressError, PooledError
from usage_service.shared.postgres import UNAVAILABLE, connect, is_read_only, query

if TYPE_CHECKING:
    import asyncpg

HEARTBEAT_SECONDS = PING_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 3.0  # within five seconds of the database all is well again, the listener included
POOLED_SECONDS = 60.0
_random = random.SystemRandom()  # forks do not draw alike

log = structlog.get_logger(__name__)


class Listener:
    """Calls `wake(channel, payload)` for each notification and `wake(None, "")` after each (re)connect.

    A notification is a hint. Those sent while the connection was down are lost: after `wake(None, "")` anything may be
    new.
    """

    def __init__(self, url: str, channels: Sequence[str], wake: Callable[[str | None, str], None]) -> None:
        self._url = url
        self._channels = channels
        self._wake = wake
        self.connected = False

    async def run(self) -> None:
        """Listen until cancelled."""
        failures = 0
        while True:
            try:
                await self._listen()
            except PooledError as error:
                hint = f"{error}. Until then what is new is found by polling."
                log.error("listener_needs_a_direct_address", hint=hint)
                await asyncio.sleep(POOLED_SECONDS)
            except (AddressError, *UNAVAILABLE) as error:  # an address that was right may be right again
                failures = 0 if self.connected else failures + 1
                self.connected = False
                wait = min(LONGEST_BACKOFF_SECONDS, 0.1 * 2**failures) * _random.uniform(0.5, 1)
                log.warning("listener_lost", error=repr(error), again_in_seconds=round(wait, 2))
                await asyncio.sleep(wait)

    async def _listen(self) -> None:
        connection = await connect(self._url, application="usage-service listener", direct=True)
        was_read_only = is_read_only(connection)
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._on_notification)
            self.connected = True
            self._wake(None, "")
            while True:
                # asyncpg does not notice a dead peer by itself.
                await asyncio.sleep(HEARTBEAT_SECONDS)
                await connection.execute(query("session", "ping"), timeout=PING_SECONDS)
                if is_read_only(connection) and not was_read_only:  # demoted: others write elsewhere, and notify there
                    raise ConnectionError("the database was made read-only")
        finally:
            connection.terminate()

    def _on_notification(
        self, connection: asyncpg.Connection[asyncpg.Record] | object, pid: int, channel: str, payload: object
    ) -> None:
        self._wake(channel, str(payload))
