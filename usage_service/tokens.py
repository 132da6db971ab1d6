"""Tokens of callers: each has a name, which is the source of its events, and the scopes that it grants."""

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

PREFIX = "us_"  # makes tokens recognisable in a file or a log
FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
KNOWN_SECONDS = 2.0  # a revoked token grants nothing after this
NEW_SECONDS = 0.2  # least pause between two reads for unknown tokens
OLD_SECONDS = 60.0  # known tokens stay valid for so long while the database is away
READ_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Grant(NamedTuple):
    """Scopes that a token grants, and its name, which is the source of events posted with it."""

    name: str
    scopes: frozenset[str]
    expires_at: datetime


class Token(msgspec.Struct, frozen=True):
    """A token as it is in the table, from which the secret cannot be restored."""

    token_id: UUID
    name: str
    scopes: list[TokenScope]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    state: Literal["valid", "expired", "revoked"]


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token; undecodable bytes of a header are kept by surrogateescape."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def create_token(connection: Connection, name: str, scopes: list[TokenScope], lifetime: timedelta) -> str:
    """Create a token of 256 random bits and return it; it is not stored and cannot be shown again."""
    token = PREFIX + secrets.token_urlsafe(32)
    await connection.fetchrow(query("tokens", "created"), name, digest_of(token), scopes, lifetime)
    return token


async def list_tokens(connection: Connection) -> list[Token]:
    """Return all tokens, revoked and expired ones too, newest first."""
    return [Token(**row) for row in await connection.fetch(query("tokens", "listed"))]


async def revoke_tokens(connection: Connection, id_or_name: str) -> int:
    """Revoke one token by its id, or all with a name; return their number."""
    number: int = await connection.fetchval(query("tokens", "revoked"), id_or_name)
    return number


class Tokens:
    """Cache of the valid tokens, read again every two seconds while tokens are used."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grants: dict[bytes, Grant] = {}
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, token: str) -> Grant | None:
        """Return what a token grants, or None; raise one of UNAVAILABLE when the database cannot be asked."""
        if not FORM.fullmatch(token):
            return None
        # Found by its hash: the time that takes reveals nothing about any token.
        digest = digest_of(token)
        asked_at = time.monotonic()
        if asked_at - self._tried_at >= KNOWN_SECONDS:
            await self._read_since(asked_at, 0)
        if digest not in self._grants and self._tried_at < asked_at:  # it may have been created just now
            await self._read_since(asked_at, NEW_SECONDS)
        grant = self._grants.get(digest)
        return grant if grant and grant.expires_at > datetime.now(UTC) else None

    async def _read_since(self, asked_at: float, apart: float) -> None:
        """Read the table unless it was read since `asked_at`, at least `apart` seconds after the last read."""
        async with self._reading:
            if self._tried_at < asked_at:
                await asyncio.sleep(max(0.0, self._tried_at + apart - time.monotonic()))
                await self._read()

    async def _read(self) -> None:
        self._tried_at = time.monotonic()
        try:
            async with self._pool.acquire(timeout=READ_SECONDS) as connection:
                rows = await connection.fetch(query("tokens", "valid"), timeout=READ_SECONDS)
        except UNAVAILABLE as error:
            if self._tried_at - self._read_at > OLD_SECONDS:
                self._tried_at = float("-inf")
                raise
            log.warning("tokens_not_read", error=repr(error))
            return
        self._grants = {row["digest"]: Grant(row["name"], frozenset(row["scopes"]), row["expires_at"]) for row in rows}
        self._read_at = time.monotonic()
