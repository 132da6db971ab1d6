"""Keys of visitors, which tell them apart without knowing who they are.

The log holds a random pseudonym for each visitor. Only a row of `visitor_keys` links it to the person, found by a keyed
hash of the raw id. The key changes with the epoch, at whose end all rows are deleted; erasing a person deletes theirs.
"""

from __future__ import annotations

import asyncio
import hmac
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog
from asyncpg.pgproto import pgproto

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool

EVERY_SECONDS = 3_600.0
MOST_REMEMBERED = 4_096  # visitors, whose raw ids stay in memory for an hour at most: 5 MB
CONTENT_VERSION = 8  # of UUIDs (RFC 9562, 5.8): what is in them is up to who makes them
RFC_VARIANT = 2  # of a UUID that has a version
UNIX_EPOCH = date(1970, 1, 1).toordinal()

log = structlog.get_logger(__name__)


class VisitorKey(NamedTuple):
    """The key of a visitor's pseudonym: the keyed hash of the raw id, and the day since 1970 that its epoch began."""

    lookup: UUID
    epoch: int


class VisitorKeys:
    """Makes visitor keys from a secret, with a new epoch every `rotation_days`."""

    def __init__(self, secret: str, rotation_days: int) -> None:
        self._secret = secret.encode()
        self._rotation_days = rotation_days
        self._content_key = hmac.digest(self._secret, b"ids of content", "sha256")
        self._key_of = lru_cache(maxsize=4)(self._derive_key)
        self._remembered = lru_cache(MOST_REMEMBERED)(self._make)

    def of(self, raw_id: str, epoch: int) -> VisitorKey:
        """Return the key of a raw id in an epoch, remembered for the visitor's next event."""
        return self._remembered(raw_id, epoch)

    def forget(self) -> None:
        """Forget the raw ids that are remembered."""
        self._remembered.cache_clear()

    def _make(self, raw_id: str, epoch: int) -> VisitorKey:
        """Return the first 128 bits of HMAC-SHA256 (RFC 2104) of the raw id, under the key of the epoch."""
        digest = hmac.digest(self._key_of(epoch), raw_id.encode(), "sha256")
        return VisitorKey(pgproto.UUID(digest[:16]), epoch)

    def stored_id(self, event_id: UUID) -> UUID:
        """Return the id under which an event is stored: its own, or a keyed hash of one that is made from content.

        Content includes the visitor, and who reads the log must not be able to check a guess of a visitor against ids.
        """
        if event_id.int >> 76 & 0xF != CONTENT_VERSION or event_id.int >> 62 & 0x3 != RFC_VARIANT:
            return event_id
        digest = int.from_bytes(hmac.digest(self._content_key, event_id.bytes, "sha256")[:16], "big")
        # asyncpg's own UUID class is made, and sent, several times as fast as Python's.
        marked = digest & ~(0xF << 76 | 0x3 << 62) | CONTENT_VERSION << 76 | RFC_VARIANT << 62
        return pgproto.UUID(marked.to_bytes(16, "big"))

    def epoch(self, now: datetime) -> int:
        """Return the day since 1970 that the current epoch began."""
        day = now.astimezone(UTC).toordinal() - UNIX_EPOCH
        return day - day % self._rotation_days

    def _derive_key(self, epoch: int) -> bytes:
        return hmac.digest(self._secret, f"visitors of epoch {epoch}".encode(), "sha256")


async def forget_old_visitors(pool: Pool, visitors: VisitorKeys) -> None:
    """Delete the visitor keys of epochs that are over, every hour until cancelled; forget raw ids at the same time."""
    while True:
        visitors.forget()
        try:
            async with pool.acquire(timeout=5) as connection:
                epoch = visitors.epoch(datetime.now(UTC))
                forgotten = await connection.fetchval(query("visitors", "forget"), epoch)
            if forgotten:
                log.info("visitors_forgotten", visitors=forgotten, epoch=epoch)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("visitors_not_forgotten", error=repr(error))
        await asyncio.sleep(EVERY_SECONDS)
