"""What was acknowledged is in the log, once and where it was said to be, whoever is killed at whatever moment.

SOAK_ROUNDS says how many times something is killed. Where SOAK_REPORT is set, docs/reliability.md is told how long it
took until events were acknowledged again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from chaos.report import write_kill_rounds
from tests.support.chaos import (
    Sender,
    ServerProcess,
    acknowledged,
    client_session,
    recovery_seconds,
    running_servers,
)
from tests.support.servers import Connection, at_random_within, event, eventually, rounds
from tests.support.sessions import waiting
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.shared.postgres import connect

ROUNDS = rounds(4)
SENDERS = 3
# What was killed starts sooner when it syncs the file system at once, not a thousand files one after the other.
DURABLE = {"fsync": "on", "recovery_init_sync_method": "syncfs", "shared_buffers": "32MB", "max_connections": "100"}
LATEST_STRIKE_SECONDS = 0.03
VICTIMS = ["postgres", "postgres", "postgres", "server", "server", "all"]


class Stack:
    """A database that survives crashes, two servers, and clients that post all the time."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path, servers: list[ServerProcess]) -> None:
        self.postgres = postgres
        self.cluster = PostgresCluster(directory)
        self.servers = servers
        self.session = client_session()
        self.struck: list[float] = []
        self.senders = [Sender(self.session, [server.url for server in servers]) for _ in range(SENDERS)]

    def strike(self, victim: str) -> None:
        """Kill the whole of PostgreSQL, one of the servers, or all of them."""
        self.struck.append(time.monotonic())
        if victim in ("postgres", "all"):
            self.cluster.kill()
            assert wait_until(lambda: self.postgres.pid is None, 10)
        for server in self.servers if victim == "all" else [random.choice(self.servers)] if victim == "server" else []:
            server.kill()

    def keep_up(self) -> None:
        """Start again whatever is dead; a server that starts while the database is away exits, too."""
        self.postgres.start()
        for server in self.servers:
            server.spawn()

    async def logged(self, after: int = 0) -> dict[str, int]:
        """Return the position of every event in the log; fail when one is there twice."""
        connection = await connect(self.postgres.url, application="tests")
        try:
            rows = await connection.fetch("SELECT event_id, position FROM event_log WHERE position > $1", after)
        finally:
            await connection.close()
        positions = {str(row["event_id"]): row["position"] for row in rows}
        assert len(positions) == len(rows)
        return positions


@asynccontextmanager
async def running_stack(directory: Path) -> AsyncIterator[Stack]:
    """Start a stack, and remove it at the end."""
    with EmbeddedPostgres(directory, options=DURABLE) as postgres:
        async with client_session() as session, running_servers(postgres.url, directory, 2, session) as servers:
            stack = Stack(postgres, directory, servers)
            async with stack.session:
                yield stack


async def strike_at_random(stack: Stack) -> None:
    """Wait for some more acknowledgements, and kill at a random moment."""
    enough = len(acknowledged(stack.senders)) + random.randint(1, 100)

    async def more() -> bool:
        stack.keep_up()
        return len(acknowledged(stack.senders)) >= enough

    await eventually(more, "events are acknowledged", 60)
    await at_random_within(LATEST_STRIKE_SECONDS, lambda: stack.strike(random.choice(VICTIMS)))


async def all_went_on(stack: Stack) -> bool:
    """Return whether every sender was acknowledged after the last strike."""
    stack.keep_up()
    return all(sender.acknowledged_at and sender.acknowledged_at[-1] > stack.struck[-1] for sender in stack.senders)


def differing(said: dict[str, int], logged: dict[str, int]) -> dict[str, tuple[int, int | None]]:
    """Return the events that are not at the positions that were answered."""
    return {event_id: (at, logged.get(event_id)) for event_id, at in said.items() if logged.get(event_id) != at}


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_nothing_acknowledged_is_lost(own_cluster: Path) -> None:
    async with running_stack(own_cluster) as stack:
        end = asyncio.Event()
        async with asyncio.TaskGroup() as sending:
            for sender in stack.senders:
                sending.create_task(sender.run(end))
            await strike_and_check(stack)
            await asyncio.gather(*(server.ready(stack.session) for server in stack.servers))
            await eventually(partial(all_went_on, stack), "every sender is acknowledged again", 60)
            end.set()
        said, logged = acknowledged(stack.senders), await stack.logged()
        assert not differing(said, logged)
        assert len(said) == len(logged)
        assert said.keys() == set().union(*(sender.sent for sender in stack.senders))
        if os.environ.get("SOAK_REPORT"):
            write_kill_rounds(recovery_seconds(stack.senders, stack.struck), len(said))


async def strike_and_check(stack: Stack) -> None:
    """Kill in rounds, and check after each the events that were acknowledged since the last one."""
    checked: dict[str, int] = {}
    for number in range(ROUNDS):
        await strike_at_random(stack)
        said = acknowledged(stack.senders)
        stack.keep_up()
        new = {event_id: at for event_id, at in said.items() if event_id not in checked}
        assert not differing(new, await stack.logged(after=min(new.values(), default=1) - 1)), f"round {number}"
        checked = said


async def test_a_commit_whose_answer_was_lost_is_found_again(
    tmp_path: Path, database: Connection, database_url: str
) -> None:
    """The client cannot know whether it was recorded: it sends again, and learns where it is."""
    async with client_session() as session, running_servers(database_url, tmp_path, 1, session) as [server]:
        sender, batch = Sender(session, [server.url]), [event() for _ in range(3)]
        holder = await connect(database_url, application="holder")
        try:
            async with holder.transaction():
                await holder.execute("SELECT lock_event_log()")
                sending = asyncio.create_task(sender.send(batch))
                await eventually(partial(waits_for_the_log, database), "the commit waits for the log")
                server.freeze()
        finally:
            await holder.close()
        await eventually(partial(holds, database, RECORDED), "it is recorded")
        server.kill()
        await server.ready(session)
        await asyncio.wait_for(sending, 30)
    assert sender.repeats == len(batch)
    rows = await database.fetch("SELECT event_id, position FROM event_log")
    assert sorted((str(row["event_id"]), row["position"]) for row in rows) == sorted(sender.positions.items())


RECORDED = "SELECT EXISTS (SELECT FROM event_log)"


async def waits_for_the_log(database: Connection) -> bool:
    return await waiting(database, table="event_log_lock") > 0


async def holds(database: Connection, condition: str) -> bool:
    return bool(await database.fetchval(condition))
