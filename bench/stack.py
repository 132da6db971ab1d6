"""Stack that is measured: a PostgreSQL that keeps what it acknowledges, servers, and load on them."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

import msgspec

from bench.load import UNDER_LOAD
from bench.numbers import Load
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import wait_until
from usage_service.local.postgres_programs import binary, environment
from usage_service.shared.progress import progress

ROOT = Path(__file__).parents[1]
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_wal_size": "4GB"}
SHOWN = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_sync_method")
START_SECONDS = 60
LOAD_SECONDS = 120
FILL_STEP = 250_000
BENCH_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("USAGE_SERVICE_")} | {
    "LOG_LEVEL": "warning"
}
DRAIN_SECONDS = 120


class BenchError(Exception):
    """Error when a measurement cannot be made; the message says why."""


class Server(NamedTuple):
    """A running server and its database."""

    port: int
    pid: int
    url: str


class Stack:
    """PostgreSQL for a run of the bench, with its servers."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self._postgres = postgres
        self.directory = directory

    @property
    def postgres_pid(self) -> int:
        """Return the process id of PostgreSQL, whose children are its sessions."""
        if (pid := self._postgres.pid) is None:
            raise BenchError("PostgreSQL has ended")
        return pid

    def database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        psql(self._postgres.url, f"CREATE DATABASE {name}")
        return urlunsplit(urlsplit(self._postgres.url)._replace(path=f"/{name}"))

    def settings(self) -> str:
        """Return PostgreSQL's version and the settings that matter here."""
        version = psql(self._postgres.url, "SHOW server_version").strip()
        shown = [f"{name}={psql(self._postgres.url, f'SHOW {name}').strip()}" for name in SHOWN]
        return f"PostgreSQL {version}, {', '.join(shown)}"

    @contextmanager
    def serving(self, url: str, mode: str | None = None) -> Iterator[Server]:
        """Run the real server, or one of bench.server's, and yield it when it is ready."""
        port, log_path = free_port(), self.directory / f"server-{mode}.log"
        command = ["bench.server", mode] if mode else ["usage_service", "serve"]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                owned_command([sys.executable, "-m", *command]),
                env=_environment(url, port), cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            if not wait_until(lambda: process.poll() is not None or _answers(port), START_SECONDS) or process.poll():
                raise BenchError(f"the server did not start:\n{log_path.read_text()[-2000:]}")
            yield Server(port, process.pid, url)
        finally:
            process.terminate()
            process.wait(30)

    def settle(self, server: Server) -> None:
        """Wait until the projections have folded the log, and write a checkpoint, so that all runs begin alike."""
        caught_up = "SELECT min(position) >= last_position() FROM projections WHERE stage = 'live'"
        if not wait_until(lambda: psql(server.url, caught_up).strip() == "t", DRAIN_SECONDS):
            raise BenchError("the projections did not catch up")
        psql(server.url, "CHECKPOINT")

    def load(
        self, server: Server, *, connections: int, seconds: float, events: int = 1, seed: str = "", kind: str = "events"
    ) -> Load:
        """Put load on a server whose projections have caught up, from a process of its own."""
        with self.loading(
            server, connections=connections, events=events, seconds=seconds, seed=seed, kind=kind
        ) as process:
            output, errors = process.communicate(timeout=seconds + 120)
        if process.returncode:
            raise BenchError(f"the load generator failed:\n{errors.decode()[-2000:]}")
        return msgspec.json.decode(output, type=Load)

    @contextmanager
    def loading(
        self,
        server: Server,
        *,
        connections: int,
        events: int,
        seconds: float,
        seed: str,
        rate: float = 0,
        kind: str = "events",
    ) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
        """Run the process that puts load on a server, at most `rate` requests a second unless that is 0.

        Yield it when the load is there.
        """
        self.settle(server)
        watched = [f"server={server.pid}", f"PostgreSQL={self.postgres_pid}"]
        arguments: dict[str, object] = {"port": server.port, "connections": connections, "events": events}
        arguments |= {"seconds": seconds, "rate": rate, "kind": kind, "seed": seed}
        named = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "bench.load", *named, "--watch", *watched]
        process = subprocess.Popen(owned_command(command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            _await_load(process)
            yield process
            process.terminate()


def _await_load(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process says that the server is under load."""
    assert process.stdout is not None
    is_told, _, _ = select.select([process.stdout], [], [], LOAD_SECONDS)
    if not is_told or process.stdout.readline() != UNDER_LOAD:
        process.kill()
        _, errors = process.communicate()
        raise BenchError(f"the load generator put no load on the server:\n{errors.decode()[-2000:]}")


@contextmanager
def open_stack() -> Iterator[Stack]:
    """Open a stack in a temporary directory, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="usage-bench-") as directory:
        path = Path(directory)
        with EmbeddedPostgres(path / "postgres", options=DURABLE) as postgres:
            yield Stack(postgres, path)


def psql(url: str, *commands: str, timeout: float = 600) -> str:
    """Return what psql prints for the commands, run in order in one session."""
    given = [word for command in commands for word in ("-c", command)]
    arguments = [str(binary("psql")), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, *given]
    done = subprocess.run(
        arguments, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise BenchError(f"psql failed: {done.stderr}")
    return done.stdout


def psql_seconds(url: str, command: str) -> float:
    """Return the seconds that a command takes, by psql's own clock."""
    timing = re.search(r"Time: ([0-9.]+) ms", psql(url, r"\timing on", command))
    if timing is None:
        raise BenchError("psql printed no time")
    return float(timing[1]) / 1000


def fill(url: str, first: int, last: int) -> None:
    """Add made events at these positions to an event_log that ends before them."""
    variables = [f"\\set first {first}", f"\\set last {last}"]
    psql(url, "SET synchronous_commit = off", *variables, f"\\i {Path(__file__).with_name('fill.sql')}")


def fill_traffic(url: str, events: int, days: int, probes: int = 1_000) -> None:
    """Fill an empty log with traffic of so many probes that ends now, and analyse the tables."""
    with progress("filling the log", events) as report:
        for first in range(1, events + 1, FILL_STEP):
            last = min(first + FILL_STEP - 1, events)
            variables = [f"\\set first {first}", f"\\set last {last}", f"\\set total {events}", f"\\set days {days}"]
            variables.append(f"\\set probes {probes}")
            psql(url, "SET synchronous_commit = off", *variables, f"\\i {Path(__file__).with_name('traffic.sql')}")
            report(last)
    psql(url, "VACUUM ANALYZE event_log", timeout=1_800)


def fill_catalogue(url: str, probes: int, days: int) -> None:
    """Register as many probes as the traffic views, before its first day."""
    variables = [f"\\set probes {probes}", f"\\set days {days}"]
    psql(url, *variables, f"\\i {Path(__file__).with_name('catalogue.sql')}")


def _environment(url: str, port: int) -> dict[str, str]:
    return BENCH_ENVIRONMENT | {
        "DATABASE_URL": url,
        "USAGE_SERVICE_PORT": str(port),
        "USAGE_SERVICE_POOL_SIZE": "32",
        "USAGE_SERVICE_VISITOR_SECRET": "a secret for measurements only",
    }


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/__lbheartbeat__", timeout=1):
            return True
    except (URLError, OSError):
        return False
