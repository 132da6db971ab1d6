"""The system that faults are done to: PostgreSQL, two servers, two builders, and what starts them again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import psycopg

from bench.building import REGISTERED
from bench.stack import DURABLE, ROOT, BenchError, fill, psql
from chaos.load import Sent, Told
from chaos.observer import Observer, Wanted
from tests.support.builder_process import BuilderProcess
from tests.support.chaos import ServerProcess
from usage_service.local.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.shared.schema import install_schema

SERVERS, BUILDERS, PROBES = 2, 2, 2_000
OPTIONS = DURABLE | {"recovery_init_sync_method": "syncfs", "max_connections": "80"}
RESTART_SECONDS = 0.2  # between the death of a process and its next start, as a service manager has it
TICK_SECONDS = 0.02
START_SECONDS = 60.0
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname IS NOT NULL AND application_name <> 'chaos' AND pid <> pg_backend_pid()
"""
# Leases are shorter than usual so that a builder need not be stopped for minutes; a build takes a second and a half.
BUILDER = {
    "PROBE_BUILDER_LEASE_SECONDS": "5",
    "PROBE_BUILDER_POLL_SECONDS": "1",
    "PROBE_BUILDER_RETRY_SECONDS": "0.2",
    "MADE_UP_STEP_SECONDS": "1",
}


@dataclass(frozen=True)
class Ground:
    """Parts that a fault needs besides the usual ones."""

    postgres: Mapping[str, str] = field(default_factory=dict)  # options
    # Called with the stack's directory; returns the environment of PostgreSQL and of all programs.
    environ: Callable[[Path], Mapping[str, str]] = lambda _: {}
    behind: int = 0  # events in the log that no projection has folded
    # Called with the stack's directory before anything is in it.
    prepare: Callable[[ExitStack, Path], None] | None = None
    # Called when PostgreSQL runs; returns the address that the programs are to use.
    before_programs: Callable[[ExitStack, Stack], str] | None = None
    server_environ: Mapping[str, str] = field(default_factory=dict)
    made_up_builds: bool = True
    piped_logs: bool = False  # whether the servers log to a pipe that may stall


class Other(Protocol):
    """Something else that is started again when it is dead."""

    def keep_up(self) -> None: ...

    def kill(self) -> None: ...


class Restarted:
    """When each thing died, so that it is started again a moment later."""

    def __init__(self) -> None:
        self._died: dict[object, float] = {}

    def due(self, thing: object, alive: bool) -> bool:
        """Return whether it is dead and to be started now."""
        if alive:
            self._died.pop(thing, None)
            return False
        died = self._died.setdefault(thing, time.monotonic())
        if time.monotonic() - died < RESTART_SECONDS:
            return False
        del self._died[thing]
        return True


class Stack:
    """The processes of a trial. `keep_up` starts again what is dead, unless a fault holds it down."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self.postgres = postgres
        self.directory = directory
        self.cluster = PostgresCluster(directory / "postgres")
        self.url = postgres.url  # of the programs
        self.servers: list[ServerProcess] = []
        self.builders: list[BuilderProcess] = []
        self.metrics: list[str] = []  # of the builders
        self.pooler: Other | None = None
        self.standby_url = ""
        self.promoted = False
        self.builder_environ: dict[str, str] = {}
        self.wanted = [Wanted("fog", "nightly", f"probe_{number}") for number in range(1, PROBES + 1)]
        self.pipes: list[LogPipe] = []  # that the servers log to, where they do not log to files
        self.down: set[object] = set()  # what is not to be started
        self.complaints: list[str] = []
        self._restarted = Restarted()

    @property
    def database(self) -> str:
        """Return the address of the database itself: of the primary, where there are two."""
        return self.standby_url if self.promoted else self.postgres.url

    def keep_up(self) -> None:
        """Start again whatever is dead."""
        if self.postgres not in self.down and self._restarted.due(self.postgres, self.postgres.pid is not None):
            with suppress(EmbeddedPostgresError):  # it is tried again
                self.postgres.start()
        for server in self.servers:
            if server not in self.down and self._restarted.due(server, server.alive):
                server.spawn(self.pipes[0].writer if self.pipes else None)
        for builder in self.builders:
            if builder not in self.down and self._restarted.due(builder, builder.alive):
                builder.spawn()
        if self.pooler:
            self.pooler.keep_up()

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.keep_up()
            time.sleep(TICK_SECONDS)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds, and return whether it did within the time."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                return False
            self.keep_up()
            time.sleep(TICK_SECONDS)
        return True

    def sql(self, *statements: str) -> str:
        """Run statements in a session of the superuser, and return what they print."""
        return psql(self.database, *statements, timeout=30)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        """Open a session of the superuser."""
        with psycopg.connect(self.database, autocommit=True, application_name="chaos") as connection:
            yield connection

    def kill_postgres(self) -> None:
        """Kill every process of PostgreSQL."""
        self.cluster.kill()
        if not wait_until(lambda: self.postgres.pid is None, 10):
            raise BenchError("PostgreSQL outlived kill -9")

    def complain(self, what: str) -> None:
        """Keep something that is wrong; the trial fails with it."""
        self.complaints.append(what)


class LogPipe:
    """A pipe whose reader may stop reading, as that of a stuck log collector."""

    def __init__(self, path: Path) -> None:
        reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4_096)
        self._reads = threading.Event()
        self._reads.set()
        threading.Thread(target=self._read, args=(reader, path), name="log", daemon=True).start()

    def _read(self, reader: int, path: Path) -> None:
        with path.open("ab") as file, open(reader, "rb", buffering=0) as pipe:
            while self._reads.wait() and (some := pipe.read(4_096)):
                file.write(some)

    def stall(self) -> None:
        """Read nothing more, and fill the pipe: whoever writes to it now has to wait."""
        self._reads.clear()
        filler = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(filler, b"\n")
        os.close(filler)

    def resume(self) -> None:
        """Read again."""
        self._reads.set()

    def close(self) -> None:
        """Close our end, which ends the reader once the servers have ended."""
        self._reads.set()
        os.close(self.writer)


def make_template(directory: Path) -> Path:
    """Make a cluster with the schema and a catalogue, for every trial to copy."""
    with EmbeddedPostgres(directory, options=OPTIONS | {"fsync": "off"}) as postgres:
        asyncio.run(install_schema(postgres.url))
        psql(postgres.url, REGISTERED % PROBES, "CHECKPOINT")
    return directory


@contextmanager
def open_stack(template: Path, directory: Path, ground: Ground) -> Iterator[Stack]:
    """Start the system in a directory of its own, and remove it at the end."""
    with ExitStack() as exits:
        directory.mkdir(mode=0o755)
        if ground.prepare:
            ground.prepare(exits, directory)
        shutil.copytree(template, directory / "postgres", symlinks=True, dirs_exist_ok=True)
        exits.callback(shutil.rmtree, directory, ignore_errors=True)
        exits.enter_context(_environment(ground.environ(directory)))
        postgres = exits.enter_context(
            EmbeddedPostgres(directory / "postgres", options=OPTIONS | dict(ground.postgres))
        )
        if ground.behind:
            fill(postgres.url, 1, ground.behind)
            psql(postgres.url, "UPDATE projections SET position = 0, changed_at = 0", "VACUUM ANALYZE event_log")
        stack = Stack(postgres, directory)
        exits.callback(_end_all, stack)  # before what it stands on
        if ground.piped_logs:
            stack.pipes = [LogPipe(directory / "servers.log")]
            exits.callback(stack.pipes[0].close)
        if ground.before_programs:
            stack.url = ground.before_programs(exits, stack)
        _start_programs(stack, ground)
        yield stack


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start_programs(stack: Stack, ground: Ground) -> None:
    urls = {"LISTEN_DATABASE_URL": stack.database} if stack.pooler else {}
    stack.servers = [
        ServerProcess(stack.url, stack.directory / f"server-{number}.log", urls | dict(ground.server_environ))
        for number in range(SERVERS)
    ]
    for number in range(BUILDERS):
        port = free_port()
        environ = BUILDER | urls | stack.builder_environ
        environ |= {"DATABASE_URL": stack.url, "PROBE_BUILDER_METRICS_PORT": str(port)}
        module = "tests.support.builder_process" if ground.made_up_builds else "builder"
        stack.builders.append(BuilderProcess(f"builder-{number}", stack.directory, environ, module))
        stack.metrics.append(f"http://127.0.0.1:{port}")
    stack.keep_up()


def _end_all(stack: Stack) -> None:
    for server in stack.servers:
        server.kill()
    for builder in stack.builders:
        builder.signal(signal.SIGKILL)


def observer_of(stack: Stack) -> Observer:
    """Return an observer of all that runs; it finds the primary, where there are two."""
    database = stack.url if stack.standby_url else stack.database
    return Observer(database, [server.url for server in stack.servers], stack.metrics, stack.wanted)


class Load:
    """The process of the clients, and what it last told."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process = process
        self._out = out
        self.told = Told(0, 0, 0, 0)
        self._reader = threading.Thread(target=self._read, name="load", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.told = msgspec.json.decode(line, type=Told)

    def stop(self) -> None:
        """Have it take no new requests."""
        self._process.send_signal(signal.SIGTERM)

    @property
    def over(self) -> bool:
        """Return whether all that was sent is acknowledged, or given up. Raise BenchError when it failed."""
        status = self._process.poll()
        if status:
            raise BenchError("the clients failed, see above")
        return status is not None

    def sent(self) -> Sent:
        """Return what was sent; once it is over."""
        return msgspec.msgpack.decode(self._out.read_bytes(), type=Sent)


@contextmanager
def loading(stack: Stack, singles: float, batches: float, seed: str) -> Iterator[Load]:
    """Put load on all servers from a process of its own."""
    out = stack.directory / "sent"
    ports = ",".join(server.url.rpartition(":")[2] for server in stack.servers)
    given = ["--ports", ports, "--singles", str(singles), "--batches", str(batches), "--seed", seed, "--out", str(out)]
    command = owned_command([sys.executable, "-m", "chaos.load", *given])
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield Load(process, out)
        finally:
            process.kill()
