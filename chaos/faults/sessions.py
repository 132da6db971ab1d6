"""Sessions of the database that are ended, refused, or answer but are wrong."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from chaos.faults.fault import SHORT_SECONDS, Fault
from chaos.stack import END_SESSIONS, Stack

ENDED_SECONDS = 10.0
READERS = 60
OTHER_PASSWORD = "ALTER ROLE postgres PASSWORD 'no program knows this one'"


@contextmanager
def end_sessions(stack: Stack) -> Iterator[None]:
    """End every session twice a second."""
    with stack.session() as session:
        until = time.monotonic() + ENDED_SECONDS
        while time.monotonic() < until:
            session.execute(END_SESSIONS)
            stack.run_for(0.5)
    yield


@contextmanager
def read_only(stack: Stack) -> Iterator[None]:
    """Make the sessions to come read-only, as those of a demoted primary are, and end the others."""
    stack.sql("ALTER DATABASE usage SET default_transaction_read_only = on", END_SESSIONS)
    yield
    stack.sql("SET default_transaction_read_only = off", "ALTER DATABASE usage RESET default_transaction_read_only")


@contextmanager
def exhaust_connections(stack: Stack) -> Iterator[None]:
    """Take every connection that there is, again and again as they become free."""
    taken: list[psycopg.Connection] = []
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            try:
                taken.append(psycopg.connect(stack.database, autocommit=True, application_name="chaos"))
            except psycopg.OperationalError:
                with suppress(psycopg.Error):
                    taken[0].execute(END_SESSIONS)
                over.wait(0.05)

    thread = threading.Thread(target=take, name="taker")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
        for connection in taken:
            connection.close()


@contextmanager
def exhaust_pool(stack: Stack) -> Iterator[None]:
    """Have many readers wait for a table that is locked: each holds a connection of its server."""
    over = threading.Event()
    with ExitStack() as exits:
        session = exits.enter_context(stack.session())
        exits.enter_context(session.transaction())
        session.execute("LOCK TABLE popularity_views, popularity_visitors IN ACCESS EXCLUSIVE MODE")
        readers = [
            threading.Thread(target=_read, args=(stack.servers[number % 2].url, number, over))
            for number in range(READERS)
        ]
        for reader in readers:
            reader.start()
        exits.callback(over.set)
        yield
    for reader in readers:
        reader.join(30)


def _read(url: str, number: int, over: threading.Event) -> None:
    while not over.is_set():
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/v1/popularity?product=fog&window=7d&limit={number + 1}")
            connection.getresponse().read()
        connection.close()
        over.wait(0.1)


@contextmanager
def change_password(stack: Stack) -> Iterator[None]:
    """Change the password that the programs have, and end their sessions, so that they have to connect."""
    known = urlsplit(stack.database).password
    with stack.session() as session:
        session.execute(OTHER_PASSWORD)
        session.execute(END_SESSIONS)
        yield
        session.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(known)))


@contextmanager
def durability_off_and_kill(stack: Stack) -> Iterator[None]:
    """Say that commits need not be on the disk, under running servers; then kill PostgreSQL."""
    stack.sql(
        "ALTER SYSTEM SET synchronous_commit = off",
        "ALTER SYSTEM SET wal_writer_delay = '10s'",
        "SELECT pg_reload_conf()",
    )
    stack.run_for(3)
    stack.kill_postgres()
    yield
    stack.wait(lambda: stack.postgres.pid is not None, 60)


FAULTS = (
    Fault("ended", "every session of the database is ended twice a second for 10 s", end_sessions, hold=0),
    Fault("read-only", "the database takes no writes, as a demoted primary", read_only),
    Fault("connections", "every connection that PostgreSQL allows is taken by others", exhaust_connections),
    Fault(
        "pool", "60 readers wait for a locked table and hold the servers' sessions", exhaust_pool, hold=SHORT_SECONDS,
    ),
    Fault("password", "the password is another, and every session has to be opened again", change_password),
    Fault(
        "commit-off", "`synchronous_commit` is switched off under running servers, then PostgreSQL is killed",
        durability_off_and_kill, hold=0,
    ),
)  # fmt: skip
