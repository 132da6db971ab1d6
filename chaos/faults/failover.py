"""Two clusters, of which the primary goes away and the standby takes over."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from bench.stack import BenchError, psql
from chaos.faults.fault import Fault
from chaos.stack import END_SESSIONS, OPTIONS, Ground, Stack
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import wait_until
from usage_service.local.postgres_programs import binary, environment, run

DETECTION_SECONDS = 3.0  # until somebody, or something, promotes the standby
START_SECONDS = 60.0
STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"


class Standby:
    """A copy of the primary that follows it, and answers reads."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._parts = urlsplit(stack.postgres.url)
        self._directory = stack.directory / "standby"
        self._directory.mkdir()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of the database on the standby."""
        return self._parts._replace(netloc=f"{self._parts.netloc.rpartition(':')[0]}:{self.port}").geturl()

    @property
    def both(self) -> str:
        """Return the address that names both, of which programs take the one that can be written to."""
        netloc = f"{self._parts.netloc},127.0.0.1:{self.port}"
        return self._parts._replace(netloc=netloc, query="target_session_attrs=read-write").geturl()

    def start(self) -> None:
        """Copy the primary and follow it; from then on a commit is on both before it is acknowledged."""
        primary = self._stack.postgres.url
        cluster = self._directory / "cluster"
        run("pg_basebackup", ["-D", str(cluster), "-R", "-X", "stream", "-c", "fast", "-d", primary],
            directory=self._directory, unprivileged=True, timeout=START_SECONDS)  # fmt: skip
        settings = OPTIONS | {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self.port)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = owned_command(
            [str(binary("postgres")), "-D", str(cluster), *words], unprivileged=True, directory=cluster
        )
        with (self._directory / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd=self._directory)
        if not wait_until(lambda: psql(primary, STREAMS).strip() == "1", START_SECONDS):
            raise BenchError("the standby does not follow the primary")
        psql(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        if not wait_until(lambda: psql(primary, IN_STEP).strip() == "1", START_SECONDS):
            raise BenchError("the standby is not in step with the primary")

    def stop(self) -> None:
        """End it, and all sessions."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)


def follow(exits: ExitStack, stack: Stack) -> str:
    """Start a standby, and return the address that names both."""
    standby = Standby(stack)
    exits.callback(standby.stop)
    standby.start()
    stack.standby_url = standby.url
    return standby.both


def promote(stack: Stack) -> None:
    """Have the standby take writes."""
    psql(stack.standby_url, "SELECT pg_promote()")
    stack.promoted = True


@contextmanager
def fail_over(stack: Stack) -> Iterator[None]:
    """Kill the primary for good, and promote the standby a moment later."""
    stack.down.add(stack.postgres)
    stack.kill_postgres()
    stack.run_for(DETECTION_SECONDS)
    yield
    promote(stack)


@contextmanager
def demote(stack: Stack) -> Iterator[None]:
    """Have the primary take no writes and end its sessions, and promote the standby a moment later."""
    stack.down.add(stack.postgres)
    psql(
        stack.postgres.url,
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
        END_SESSIONS,
    )
    stack.run_for(DETECTION_SECONDS)
    yield
    promote(stack)


GROUND = Ground(before_programs=follow)
FAULTS = (
    Fault(
        "failover", "the primary is killed for good, and its standby is promoted 3 s later", fail_over, hold=0,
        ground=GROUND,
    ),
    Fault(
        "demoted", "the primary answers but takes no more writes, and its standby is promoted 3 s later",
        demote, hold=0, ground=GROUND,
    ),
)  # fmt: skip
