"""A reader that has seen position N never misses one below N, whatever happens to those who write.

Writers are slow, roll back, and are killed; servers are killed; readers follow the tail all the while. The test of the
test: without the lock of the log the same scenario shows readers that missed events.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import msgspec

from tests.support.chaos import Sender, ServerProcess, acknowledged, client_session, running_servers
from tests.support.servers import Connection, eventually, rounds
from usage_service.ingest.appending import Record, append
from usage_service.shared.postgres import UNAVAILABLE, connect

STRIKES = rounds(6)
STRIKES_WITHOUT_THE_LOCK = 3
EVENTS_A_STRIKE = 20
LONGEST_DAWDLE_SECONDS = 0.02
SECONDS = 40.0
Seen = list[tuple[int, str]]  # position and event_id, in the order of delivery

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('dawdler', 'usage-service')
ORDER BY random() LIMIT 1
"""
NO_LOCK = "CREATE OR REPLACE FUNCTION lock_event_log() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'"
DEFINITIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname IN ('lock_event_log', 'append_new_events') ORDER BY proname
"""


class Course:
    """The progress of the scenario, and the positions that its writers know."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.last_position: int | None = None  # once nobody writes any more
        self.committed: set[str] = set()
        self.rolled_back: set[str] = set()

    def read_on(self, seen: Seen) -> bool:
        """Return whether there is more to be read."""
        return self.last_position is None or not seen or seen[-1][0] < self.last_position


def note() -> Record:
    """Make an event without a visitor."""
    return Record(
        uuid4(), "x_note", 1, datetime.now(UTC), None, "fog", None, None, "tests", msgspec.Raw(b"{}"), uuid4()
    )


async def dawdle(url: str, course: Course) -> None:
    """Append in transactions that take long; connect again when terminated."""
    while not course.ended.is_set():
        with suppress(*UNAVAILABLE, asyncpg.InternalClientError):
            connection = await connect(url, role="usage_server", application="dawdler")
            try:
                while not course.ended.is_set():
                    await write_slowly(connection, course)
            finally:
                connection.terminate()


async def write_slowly(connection: Connection, course: Course) -> None:
    """Run one transaction, and commit it or roll it back."""
    written: set[str] = set()
    transaction = connection.transaction()
    await transaction.start()
    for _ in range(random.randint(1, 2)):
        records = [note() for _ in range(random.randint(1, 3))]
        await append(connection, records)
        written |= {str(record.event_id) for record in records}
        await connection.execute("SELECT pg_sleep($1)", random.uniform(0, LONGEST_DAWDLE_SECONDS))
    if random.random() < 0.3:
        await transaction.rollback()
        course.rolled_back |= written
    else:
        await transaction.commit()
        course.committed |= written


async def read_by_sql(url: str, course: Course, seen: Seen) -> None:
    """Ask again and again for the events after the last position."""
    connection = await connect(url, role="usage_reader", application="reader")
    try:
        while course.read_on(seen):
            rows = await connection.fetch(
                "SELECT position, event_id::text FROM event_log WHERE position > $1 ORDER BY position",
                seen[-1][0] if seen else 0,
            )
            seen += [(row["position"], row["event_id"]) for row in rows]
    finally:
        await connection.close()


async def read_by_http(session: aiohttp.ClientSession, urls: list[str], course: Course, seen: Seen) -> None:
    """Follow the log's end; connect again, to any server, when the stream ends or breaks."""
    while course.read_on(seen):
        query = {"after": str(seen[-1][0] if seen else 0), "wait": "1"}
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{random.choice(urls)}/v1/events", params=query) as response:
                async for line in response.content:
                    if not line.endswith(b"\n"):
                        break  # cut off in the middle
                    read = json.loads(line)
                    seen.append((read["position"], read["event_id"]))
                    if not course.read_on(seen):
                        return
        await asyncio.sleep(0)


async def strike(owner: Connection, servers: list[ServerProcess], session: aiohttp.ClientSession, strikes: int) -> None:
    """Terminate writers whenever the log has grown by some events, and kill a server now and then."""
    for number in range(1, strikes + 1):
        aim = int(await owner.fetchval("SELECT last_position()")) + EVENTS_A_STRIKE
        await eventually(partial(grown, owner, aim), f"the log grows, strike {number}", SECONDS)
        await owner.execute(TERMINATE)
        if number % 6 == 3:
            victim = random.choice(servers)
            victim.kill()
            await victim.ready(session)


async def grown(owner: Connection, position: int) -> bool:
    return int(await owner.fetchval("SELECT last_position()")) >= position


async def play(url: str, owner: Connection, directory: Path, strikes: int) -> tuple[Seen, list[Seen]]:
    """Play the scenario, and return the log at the end and the events that each reader has seen."""
    course, readers = Course(), [Seen() for _ in range(4)]
    async with client_session() as session, running_servers(url, directory, 2, session) as servers:
        urls = [server.url for server in servers]
        senders = [Sender(session, urls) for _ in range(3)]
        async with asyncio.timeout(SECONDS + strikes * SECONDS), asyncio.TaskGroup() as reading:
            for seen in readers[:2]:
                reading.create_task(read_by_sql(url, course, seen))
            for seen in readers[2:]:
                reading.create_task(read_by_http(session, urls, course, seen))
            async with asyncio.TaskGroup() as writing:
                for work in (*(dawdle(url, course) for _ in range(3)), *(each.run(course.ended) for each in senders)):
                    writing.create_task(work)
                await strike(owner, servers, session, strikes)
                course.ended.set()
            course.last_position = await owner.fetchval("SELECT last_position()")
        assert all(server.alive for server in servers), "a terminated connection has ended the server"
    log = await logged(owner)
    check_writers(course, acknowledged(senders), {event_id for _, event_id in log})
    return log, readers


async def logged(owner: Connection) -> Seen:
    rows = await owner.fetch("SELECT position, event_id::text FROM event_log ORDER BY position")
    return [(row["position"], row["event_id"]) for row in rows]


def check_writers(course: Course, acknowledged: dict[str, int], recorded: set[str]) -> None:
    assert course.committed
    assert course.rolled_back
    assert course.committed | acknowledged.keys() <= recorded
    assert not course.rolled_back & recorded


def missed(log: Seen, readers: list[Seen]) -> list[Seen]:
    """Return the events of the final log that each reader did not see."""
    return [sorted(set(log) - set(seen)) for seen in readers]


@asynccontextmanager
async def without_the_lock(owner: Connection) -> AsyncIterator[None]:
    """Remove the lock in this database, so that appends do not wait for each other.

    All go the long way, which draws its positions: the short one reads the next ones, and two would take the same.
    """
    append_new_events, lock_event_log = [row[0] for row in await owner.fetch(DEFINITIONS)]
    begins = "PERFORM begin_append();"
    assert append_new_events.count(begins) == 1
    await owner.execute(append_new_events.replace(begins, "RETURN NULL;"))
    await owner.execute(NO_LOCK)
    try:
        yield
    finally:
        await owner.execute(lock_event_log)
        await owner.execute(append_new_events)


async def test_every_reader_sees_every_event_once_and_in_order(
    database_url: str, database: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    log, readers = await play(database_url, database, tmp_path, STRIKES)
    assert missed(log, readers) == [[]] * len(readers)
    assert readers == [log] * len(readers)


async def test_the_scenario_would_show_a_log_without_order(
    database_url: str, database: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    async with without_the_lock(database):
        log, readers = await play(database_url, database, tmp_path, STRIKES_WITHOUT_THE_LOCK)
    assert any(missed(log, readers))
    append_new_events, lock_event_log = [row[0] for row in await database.fetch(DEFINITIONS)]
    assert "LOCK TABLE public.event_log_lock" in lock_event_log
    assert "PERFORM begin_append();" in append_new_events
