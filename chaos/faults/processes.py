"""Processes that are killed, stopped, or not read."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.faults.fault import SHORT_SECONDS, Fault
from chaos.pooler import RunningPooler, needs_pooler, through_a_pooler
from chaos.stack import END_SESSIONS, Ground, Stack
from tests.support.chaos import ServerProcess

REFUSAL_SECONDS = 30.0
ALL_BACK_SECONDS = 10.0  # four programs start on the same cores at the same time
LEASE_OUTLASTED = 12.0  # the lease is 5 s


@contextmanager
def kill_postgres(stack: Stack) -> Iterator[None]:
    stack.kill_postgres()
    yield
    stack.wait(lambda: stack.postgres.pid is not None, 60)


@contextmanager
def kill_server(stack: Stack) -> Iterator[None]:
    stack.servers[0].kill()
    yield


@contextmanager
def kill_all_servers(stack: Stack) -> Iterator[None]:
    for server in stack.servers:
        server.kill()
    yield


@contextmanager
def kill_builder(stack: Stack) -> Iterator[None]:
    stack.builders[0].signal(signal.SIGKILL)
    yield


@contextmanager
def kill_everything(stack: Stack) -> Iterator[None]:
    for server in stack.servers:
        server.kill()
    for builder in stack.builders:
        builder.signal(signal.SIGKILL)
    with kill_postgres(stack):
        yield


@contextmanager
def stop_postgres(stack: Stack) -> Iterator[None]:
    with stopped(stack.cluster.processes()):
        yield


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes, and have them go on at the end; those that have ended by then are left out."""
    _signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(pids, signal.SIGCONT)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    subprocess.run(["kill", f"-{number.name.removeprefix('SIG')}", *map(str, pids)], check=False, capture_output=True)


@contextmanager
def stop_builder(stack: Stack) -> Iterator[None]:
    stack.builders[0].signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.builders[0].signal(signal.SIGCONT)


@contextmanager
def stall_stderr(stack: Stack) -> Iterator[None]:
    [pipe] = stack.pipes
    pipe.stall()
    stack.sql(END_SESSIONS)  # something to log
    try:
        yield
    finally:
        pipe.resume()


@contextmanager
def kill_pooler(stack: Stack) -> Iterator[None]:
    if stack.pooler:
        stack.pooler.kill()
    yield


@contextmanager
def start_behind_an_old_pooler(stack: Stack) -> Iterator[None]:
    """Start one more server, behind a pooler that forgets prepared statements; it has to refuse."""
    old = RunningPooler(stack, "max_prepared_statements = 0")
    old.keep_up()
    server = ServerProcess(old.url, stack.directory / "refused.log", {"LISTEN_DATABASE_URL": stack.database})
    try:
        stack.wait(lambda: old.accepts, 10)
        server.spawn()
        if not stack.wait(lambda: not server.alive, REFUSAL_SECONDS):
            stack.complain("a server behind a pooler that loses prepared statements was not refused at its start")
        yield
    finally:
        server.kill()
        old.kill()


FAULTS = (
    Fault("kill-postgres", "PostgreSQL is killed with all its processes", kill_postgres, hold=0),
    Fault("kill-server", "one of two servers is killed", kill_server, hold=0),
    Fault("kill-servers", "both servers are killed at once", kill_all_servers, hold=0),
    Fault("kill-builder", "one of two builders is killed in the middle of builds", kill_builder, hold=0),
    Fault("kill-all", "PostgreSQL, the servers and the builders are killed at once", kill_everything, hold=0,
        back_within=ALL_BACK_SECONDS),
    Fault(
        "kill-pooler", "PgBouncer, which everything goes through, is killed", kill_pooler, hold=0,
        ground=Ground(before_programs=through_a_pooler), missing=needs_pooler,
    ),
    Fault(
        "old-pooler", "one more server is started behind a pooler that forgets prepared statements",
        start_behind_an_old_pooler, hold=0, missing=needs_pooler,
    ),
    Fault("stop-postgres", "PostgreSQL is stopped where it is (SIGSTOP) and goes on later", stop_postgres),
    Fault(
        "stop-builder", "a builder is stopped for longer than its lease and goes on later", stop_builder,
        hold=LEASE_OUTLASTED,
    ),
    Fault(
        "stalled-stderr", "nobody reads what the servers log, and the pipe is full", stall_stderr, hold=SHORT_SECONDS,
        ground=Ground(piped_logs=True, server_environ={"LOG_LEVEL": "debug"}),
    ),
)  # fmt: skip
