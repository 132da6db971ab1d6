"""Tokens: what a caller shows, whose name its events have, and which scopes it opens."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
import structlog

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

TokenScope = Literal["events", "read", "build", "admin"]

PREFIX = "us_"  # finds tokens that were left in a file or a log
FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
KNOWN_SECONDS = 2.0  # a revoked token opens nothing after this
NEW_SECONDS = 0.2  # apart, at least, are the looks for those that are not known
OLD_SECONDS = 60.0  # what is known is good for so long while the database is away
LOOK_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Grant(NamedTuple):
    """What a token opens, and the source of what is posted with it."""

    name: str
    scopes: frozenset[str]
    expires_at: datetime


class Token(msgspec.Struct, frozen=True):
    """A token as the table has it; nothing leads back from there to the token itself."""

    token_id: UUID
    name: str
    scopes: list[TokenScope]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    state: Literal["valid", "expired", "revoked"]


def digest_of(token: str) -> bytes:
    """SHA-256. Headers may hold any bytes, decoded so that they survive."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def create_token(connection: Connection, name: str, scopes: list[TokenScope], lifetime: timedelta) -> str:
    """A new token of 256 random bits, which is shown this once."""
    token = PREFIX + secrets.token_urlsafe(32)
    await connection.fetchrow(query("tokens", "created"), name, digest_of(token), scopes, lifetime)
    return token


async def list_tokens(connection: Connection) -> list[Token]:
    """All there ever were, newest first."""
    return [Token(**row) for row in await connection.fetch(query("tokens", "listed"))]


async def revoke_tokens(connection: Connection, id_or_name: str) -> int:
    """Revokes one by its id or all of a name; how many there were."""
    number: int = await connection.fetchval(query("tokens", "revoked"), id_or_name)
    return number


class Tokens:
    """The valid tokens, held in memory and read again every two seconds while somebody shows one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grants: dict[bytes, Grant] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, token: str) -> Grant | None:
        """What it opens, or None; raises one of UNAVAILABLE when nobody can tell."""
        if not FORM.fullmatch(token):
            return None
        # Found by its hash: how long that takes tells nothing about any token.
        digest = digest_of(token)
        asked_at = time.monotonic()
        if asked_at - self._tried_at >= KNOWN_SECONDS:
            await self._read_since(asked_at, 0)
        if digest not in self._grants and self._tried_at < asked_at:  # it may have been created just now
            await self._read_since(asked_at, NEW_SECONDS)
        grant = self._grants.get(digest)
        return grant if grant and grant.expires_at > datetime.now(UTC) else None

    async def _read_since(self, asked_at: float, apart: float) -> None:
        """Reads the table, unless somebody did since we asked; no sooner than so many seconds after the last time."""
        async with self._reading:
            if self._tried_at < asked_at:
                await asyncio.sleep(max(0.0, self._tried_at + apart - time.monotonic()))
                await self._read()

    async def _read(self) -> None:
        self._tried_at = time.monotonic()
        try:
            async with self._pool.acquire(timeout=LOOK_SECONDS) as connection:
                rows = await connection.fetch(query("tokens", "valid"), timeout=LOOK_SECONDS)
        except UNAVAILABLE as error:
            if self._tried_at - self._read_at > OLD_SECONDS:
                self._tried_at = float("-inf")
                raise
            log.warning("tokens_not_read", error=repr(error))
            return
        self._grants = {row["digest"]: Grant(row["name"], frozenset(row["scopes"]), row["expires_at"]) for row in rows}
        self._read_at = time.monotonic()
