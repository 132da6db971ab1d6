"""Notes of the statements that builds run, so that people can read how the rows of a probe were made.

They are told in batches beside the builds, which never wait for them: a note that is lost costs no rows.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from builder.queries import query
from usage_service.shared.bigquery.statement import Statement
from usage_service.shared.postgres import UNAVAILABLE, Pool

MOST_NOTES = 200
FLUSH_SECONDS = 1.0
WRITE_SECONDS = 5.0
# The character that PostgreSQL does not store, in JSON: noted as the six characters that stand for it.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

log = structlog.get_logger(__name__)


class Note(NamedTuple):
    """Builds, and the statement that reads their pings, with its parameters in JSON."""

    builds: Sequence[UUID]
    sql: str
    parameters: str


class StatementNotes:
    """Notes that are to be written; the oldest is dropped where there are too many."""

    def __init__(self) -> None:
        self._notes: deque[Note] = deque(maxlen=MOST_NOTES)
        self._lock = threading.Lock()

    def note(self, builds: Sequence[UUID], statement: Statement) -> None:
        """Note the statement of some builds; may be called in any thread."""
        parameters = json.dumps([parameter.to_api_repr() for parameter in statement.parameters])
        parameters = NUL.sub(r"\\\g<0>", parameters)
        with self._lock:
            self._notes.append(Note(builds, statement.sql, parameters))

    async def run(self, pool: Pool) -> None:
        """Write the notes every second until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush(pool)
        finally:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.flush(pool), WRITE_SECONDS)

    async def flush(self, pool: Pool) -> None:
        """Write the notes that there are; those that the database does not take are dropped."""
        with self._lock:
            notes, self._notes = list(self._notes), deque(maxlen=MOST_NOTES)
        try:
            for note in notes:
                await _write(pool, note)
        except UNAVAILABLE as error:
            log.warning("statements_not_noted", notes=len(notes), error=repr(error))


async def _write(pool: Pool, note: Note) -> None:
    """Write a note; one that the database refuses takes no other with it."""
    try:
        async with pool.acquire(timeout=WRITE_SECONDS) as connection:
            await connection.execute(query("statements", "note"), *note, timeout=WRITE_SECONDS)
    except UNAVAILABLE:
        raise
    except asyncpg.PostgresError as error:
        log.warning("statement_refused", builds=len(note.builds), error=repr(error))
