"""Tokens of callers: each has a name, which is the source of its events, and the scopes that it grants.

A browser shows a session instead, which opens what its token opens.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

TokenScope = Literal["events", "read", "build", "admin", "feed"]
FEED: TokenScope = "feed"  # goes alone: its tokens are in addresses, which others may see

PREFIX = "us_"  # makes tokens recognisable in a file or a log
FORM = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
SESSION_PREFIX = "ps_"
SESSION_FORM = re.compile(SESSION_PREFIX + r"[A-Za-z0-9_-]{43}")
SESSION_LIFETIME = timedelta(hours=12)
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


class Session(NamedTuple):
    """Session of the pages: the grant of the token that opened it, or a proof that it was the operator's."""

    grant: Grant | None
    proof: bytes | None
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


def proof_of(secret: str, token: str) -> bytes:
    """Return the proof that who opened a session had the token; without the session's secret it tells nothing of it."""
    return digest_of(f"{secret} {token}")


class Tokens:
    """Cache of the valid tokens and sessions, read again every two seconds while any are used."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grants: dict[bytes, Grant] = {}
        self._sessions: dict[bytes, Session] = {}
        self._read_at = self._tried_at = self._failed_at = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, token: str) -> Grant | None:
        """Return what a token grants, or None; raise one of UNAVAILABLE when the database cannot be asked."""
        if not FORM.fullmatch(token):
            return None
        # Found by its hash: the time that takes reveals nothing about any token.
        digest = digest_of(token)
        await self._read_for(digest)
        grant = self._grants.get(digest)
        return grant if grant and grant.expires_at > datetime.now(UTC) else None

    async def find_session(self, secret: str) -> Session | None:
        """Return the session with this secret, or None; raise one of UNAVAILABLE when the database cannot be asked."""
        if not SESSION_FORM.fullmatch(secret):
            return None
        digest = digest_of(secret)
        await self._read_for(digest)
        session = self._sessions.get(digest)
        return session if session and session.expires_at > datetime.now(UTC) else None

    async def are_valid(self, secret: str) -> bool:
        """Return whether a token or a session with this secret is valid; raise as `find`."""
        return bool(await self.find(secret) or await self.find_session(secret))

    async def open_session(self, token: str, *, is_operators: bool) -> str | None:
        """Open a session for a token, and return its secret; None when the token is not valid any more."""
        secret = SESSION_PREFIX + secrets.token_urlsafe(32)
        of_token, proof = (None, proof_of(secret, token)) if is_operators else (digest_of(token), None)
        async with self._pool.acquire(timeout=READ_SECONDS) as connection:
            arguments = digest_of(secret), of_token, proof, SESSION_LIFETIME
            is_open = await connection.fetchval(query("tokens", "open_session"), *arguments, timeout=READ_SECONDS)
        self._tried_at = float("-inf")  # the next request reads it
        return secret if is_open else None

    async def close_session(self, secret: str) -> None:
        """End a session, here at once and on other servers when they read next."""
        digest = digest_of(secret)
        async with self._pool.acquire(timeout=READ_SECONDS) as connection:
            await connection.execute(query("tokens", "close_session"), digest, timeout=READ_SECONDS)
        self._sessions.pop(digest, None)
        self._tried_at = float("-inf")  # a read that had begun before may bring it back

    async def _read_for(self, digest: bytes) -> None:
        asked_at = time.monotonic()
        if asked_at - self._tried_at >= KNOWN_SECONDS:
            await self._read_since(asked_at, 0)
        is_known = digest in self._grants or digest in self._sessions
        if not is_known and self._tried_at < asked_at:  # it may have been created just now
            await self._read_since(asked_at, NEW_SECONDS)

    async def _read_since(self, asked_at: float, apart: float) -> None:
        """Read the tables unless they were read since `asked_at`, at least `apart` seconds after the last read."""
        async with self._reading:
            if self._failed_at > asked_at:  # or each of those who wait would try for seconds, one after the other
                raise ConnectionError("the tokens could not be read")
            if self._tried_at < asked_at:
                await asyncio.sleep(max(0.0, self._tried_at + apart - time.monotonic()))
                await self._read()

    async def _read(self) -> None:
        self._tried_at = time.monotonic()
        try:
            async with self._pool.acquire(timeout=READ_SECONDS) as connection:
                tokens = await connection.fetch(query("tokens", "valid"), timeout=READ_SECONDS)
                sessions = await connection.fetch(query("tokens", "sessions"), timeout=READ_SECONDS)
        except UNAVAILABLE as error:
            if self._tried_at - self._read_at > OLD_SECONDS:
                self._tried_at, self._failed_at = float("-inf"), time.monotonic()
                raise
            log.warning("tokens_not_read", error=repr(error))
            return
        self._grants = {row["digest"]: _grant(row) for row in tokens}
        self._sessions = {
            row["digest"]: Session(None if row["proof"] else _grant(row), row["proof"], row["expires_at"])
            for row in sessions
        }
        self._read_at = time.monotonic()


def _grant(row: asyncpg.Record) -> Grant:
    return Grant(row["name"], frozenset(row["scopes"]), row["expires_at"])
