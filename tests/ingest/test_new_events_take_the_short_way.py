"""Events of which none is known are recorded at half of the cost, and alike; others send their batch the long way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from tests.support.servers import Connection
from usage_service.ingest.appending import Appended, Record, append, columns_of, new_columns_of
from usage_service.ingest.visitors import VisitorKey
from usage_service.queries import query
from usage_service.shared.postgres import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncpg.connection import LoggedQuery

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANN, BOB = VisitorKey(uuid4(), 20_000), VisitorKey(uuid4(), 20_090)
STORED = """
SELECT e.event_id, e.type, e.schema_version, e.occurred_at, e.product, e.channel, e.probe, e.source, e.data, e.digest,
       k.lookup, k.epoch, e.visitor IS NULL AS unnamed
FROM event_log e LEFT JOIN visitor_keys k ON k.pseudonym = e.visitor
"""
WRITTEN = """
SELECT (SELECT count(*) FROM event_log), (SELECT count(*) FROM visitor_keys), last_value, is_called FROM event_position
"""


class Way(NamedTuple):
    """The ways that a batch took: the short one, and the long one where it was not enough."""

    short: bool
    long: bool


SHORT, BOTH = Way(short=True, long=False), Way(short=True, long=True)


def note(event_id: UUID | None = None, *, kind: str = "x_note", visitor: VisitorKey | None = ANN) -> Record:
    """Make an event with an id of its own, unless one is given."""
    raw = msgspec.Raw(b'{"a":[1,null]}')
    return Record(event_id or uuid4(), kind, 1, NOON, visitor, "fog", None, "gc_ms", "tests", raw, UUID(int=7))


def varied() -> list[Record]:
    """Make events that differ from each other in every column, nulls included."""
    return [
        note()._replace(
            type=f"x_{number % 3}",
            schema_version=1 + number % 2,
            occurred_at=NOON + timedelta(microseconds=number),
            visitor=[ANN, None, BOB][number % 3],
            product=[None, "fog", "fenix"][number % 3],
            channel=[None, "nightly"][number % 2],
            probe=[None, "gc_ms", "x,{}\"'é"][number % 3],
            source=["app", "etl \\ {null}"][number % 2],
            data=msgspec.Raw(b'{"n":%d}' % number),
            digest=uuid4(),
        )
        for number in range(37)
    ]


@pytest.fixture
async def connection(database: Connection, database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect with the rights that a server has, to an empty log."""
    opened = await connect(database_url, role="usage_server", application="tests")
    yield opened
    await opened.close()


@contextmanager
def watched(connection: asyncpg.Connection[asyncpg.Record]) -> Iterator[list[str]]:
    """Collect the statements that the connection runs."""
    statements: list[str] = []

    def collect(logged: LoggedQuery) -> None:
        statements.append(logged.query)

    with connection.query_logger(collect):
        yield statements


async def way_of(connection: asyncpg.Connection[asyncpg.Record], records: list[Record]) -> tuple[Way, list[Appended]]:
    """Append the records, and return the way that they took and what became of them."""
    with watched(connection) as statements:
        outcomes = await append(connection, records)
        await asyncio.sleep(0)  # they are collected in the loop's next turn
    asked = {name: query("log", name) in statements for name in ("append_new", "append")}
    return Way(asked["append_new"], asked["append"]), outcomes


async def test_both_ways_store_the_same(connection: asyncpg.Connection[asyncpg.Record], database: Connection) -> None:
    records = varied()
    await connection.execute(query("log", "append"), *columns_of(records))
    expected = await database.fetch(f"{STORED} ORDER BY position")
    again = [record._replace(event_id=uuid4()) for record in records]
    way, outcomes = await way_of(connection, again)
    assert way == SHORT
    first = len(records) + 1
    assert outcomes == [Appended(first + number, "recorded") for number in range(len(again))]
    stored = await database.fetch(f"{STORED} WHERE position >= $1 ORDER BY position", first)
    assert [row["event_id"] for row in stored] == [record.event_id for record in again]
    assert [tuple(row)[1:] for row in stored] == [tuple(row)[1:] for row in expected]
    assert await database.fetchval("SELECT count(DISTINCT visitor) FROM event_log") == 2


async def test_whatever_is_not_new_sends_its_batch_the_long_way(
    connection: asyncpg.Connection[asyncpg.Record], database: Connection
) -> None:
    known, dropped, twice, new = note(), note(), note(), note()
    await append(connection, [known])
    await database.execute(
        "INSERT INTO dropped_events (event_id, digest, fingerprint, position) VALUES ($1, $2, $2, 1)",
        dropped.event_id,
        dropped.digest,
    )
    other = known._replace(digest=UUID(int=8))
    erasure = note(kind="visitor_erased", visitor=BOB)
    cases = {
        "a repeat": ([new, known], ["recorded", "duplicate"]),
        "another event under its id": ([note(visitor=BOB), other], ["recorded", "conflict"]),
        "an id given twice": ([twice, twice], ["recorded", "duplicate"]),
        "a repeat of what was dropped": ([note(), dropped], ["recorded", "duplicate"]),
        "an erasure": ([note(visitor=BOB), erasure], ["recorded", "recorded"]),
    }
    for case, (records, expected) in cases.items():
        before = await database.fetchrow(WRITTEN)
        assert await connection.fetchval(query("log", "append_new"), *new_columns_of(records)) is None, case
        assert await database.fetchrow(WRITTEN) == before, f"{case}: no trace of the attempt"
        way, outcomes = await way_of(connection, records)
        assert way == BOTH, case
        assert [outcome for _, outcome in outcomes] == expected, case
        way, outcomes = await way_of(connection, [note()])
        assert (way, [outcome for _, outcome in outcomes]) == (SHORT, ["recorded"]), f"after {case}"
    assert not await database.fetchval("SELECT count(*) FROM visitor_keys WHERE lookup = $1", BOB.lookup)


async def test_positions_have_no_gaps_whichever_way_events_come(
    connection: asyncpg.Connection[asyncpg.Record], database: Connection
) -> None:
    known = note()
    for batch in ([known], [note(), note()], [note(), known, note()], [note()], [known], [note(), note()]):
        await append(connection, batch)
    assert await database.fetchval("SELECT array_agg(position ORDER BY position) FROM event_log") == [*range(1, 9)]


async def test_a_faulty_event_is_refused_with_nothing_written(
    connection: asyncpg.Connection[asyncpg.Record], database: Connection
) -> None:
    before = await database.fetchrow(WRITTEN)
    with pytest.raises(asyncpg.CheckViolationError):
        await append(connection, [note(), note()._replace(data=msgspec.Raw(b"[]"))])
    assert await database.fetchrow(WRITTEN) == before


async def test_nothing_to_append_is_nothing(
    connection: asyncpg.Connection[asyncpg.Record], database: Connection
) -> None:
    before = await database.fetchrow(WRITTEN)
    empty: list[object] = [[] for _ in range(14)]
    assert await connection.fetchval(query("log", "append_new"), *empty) is None
    assert await database.fetchrow(WRITTEN) == before
