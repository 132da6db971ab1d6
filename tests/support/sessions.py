"""Sessions of a test's own database: other tests have theirs in the same cluster, and tables have the same numbers."""

from __future__ import annotations

from tests.support.servers import Connection

WAITING = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.datname = current_database() AND l.locktype LIKE $1 AND a.query LIKE $2
  AND a.application_name LIKE $3 AND ($4::text IS NULL OR l.relation = $4::text::regclass)
"""


async def waiting(
    database: Connection,
    kind: str = "%",
    *,
    statement: str = "%",
    application: str = "%",
    table: str | None = None,
) -> int:
    """Return how many sessions of this database wait for a lock.

    Of those whose statement and application are like this, for a lock of this kind (`relation`, `advisory`, ...), and
    for this table.
    """
    await database.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction sessions are as first seen
    found: int = await database.fetchval(WAITING, kind, statement, application, table)
    return found
