"""Embedded PostgreSQL: a server on a data directory, which ends with the process that owns it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import structlog

from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.local.postgres_programs import EmbeddedPostgresError, binary, environment, last_lines, run
from usage_service.shared.local_services import address_of
from usage_service.shared.queries import SqlFolder

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

# Long, because recovery after a crash replays the write-ahead log before the server takes connections.
START_SECONDS = 120.0
IMMEDIATE_SECONDS = 6.0
LOG_BYTES = 8 * 1024 * 1024
_PORT_ATTEMPTS = 5
_ROOMY_SHARED_MEMORY = 256 * 1024 * 1024
_DEFAULTS = MappingProxyType(
    {
        "max_connections": "200",
        "shared_buffers": "256MB",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
        "logging_collector": "off",
    }
)
_query = SqlFolder(Path(__file__).parent / "sql").statement
_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server on 127.0.0.1 whose cluster, password and log live in `data_dir`.

    Synchronous. Start it from the main thread: when the thread that started it ends, by kill -9 too, the server shuts
    down. `port` None takes a free one; `options` are server parameters that replace the built-in ones.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        self._cluster = PostgresCluster(data_dir)
        self._log_path = self._cluster.data_dir / "postgres.log"
        self._wanted_port = port
        self._port = port
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return the URL for connecting as the superuser. Raise EmbeddedPostgresError before the first start."""
        if self._port is None:
            raise EmbeddedPostgresError("The database has no port yet; start it first.")
        return address_of(self._cluster.password, self._port)

    @property
    def pid(self) -> int | None:
        """Return the server's process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def poll(self) -> int | None:
        """Return the server's exit status, None while it runs or before its start; and keep its log within bounds."""
        _rotate(self._log_path)
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the server and return once the database accepts connections; do nothing when it is running.

        Make the cluster and the database the first time. Raise EmbeddedPostgresError when that is impossible; its
        message says why.
        """
        if self.pid is not None:
            return
        with self._cluster.claimed() as lock:
            if self._wanted_port:
                _refuse_taken(self._wanted_port)
            self._cluster.ensure(lock=lock, durable=self._options.get("fsync") != "off")
            try:
                self._launch(lock)
                self._create_database()
            except BaseException:
                self.stop()
                raise
        _log.info("postgres_started", pid=self.pid, port=self._port, directory=str(self._cluster.path))

    def stop(self, timeout: float = 30) -> None:
        """Shut down: within `timeout` seconds, rolling back open transactions; else at once; else by SIGKILL.

        Committed data outlives all three. Do nothing when the server is not running.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        for number, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, min(timeout, IMMEDIATE_SECONDS))):
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return
        _log.warning("postgres_killed", pid=process.pid, directory=str(self._cluster.path))
        self._cluster.kill()
        process.kill()
        process.wait(IMMEDIATE_SECONDS)

    def _launch(self, lock: int) -> None:
        for attempt in range(_PORT_ATTEMPTS):
            # Started again after a crash, it keeps its port: other processes connect to that.
            kept = self._port if attempt == 0 else None
            self._port = self._wanted_port or kept or free_port()
            log_start = _rotate(self._log_path)
            self._spawn(lock)
            if self._await_ready():
                return
            self._collect_failure(log_start)
        raise EmbeddedPostgresError("No free port was found on 127.0.0.1; name one with --port.")

    def _spawn(self, lock: int) -> None:
        command = [str(binary("postgres")), "-D", str(self._cluster.path), *self._settings()]
        owned = owned_command(command, unprivileged=True, death_signal=signal.SIGINT, directory=self._cluster.path)
        descriptor = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as log:
            # In a session of its own, so that Ctrl-C on the terminal reaches only the owner, which then stops it.
            self._process = subprocess.Popen(
                owned,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                env=environment(),
                cwd=self._cluster.data_dir,
                start_new_session=True,
            )

    def _settings(self) -> list[str]:
        fixed = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self._port)}
        settings = {**_DEFAULTS, **_shared_memory(), **self._options, **fixed}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _await_ready(self) -> bool:
        """Wait for the server, and return False when it exited instead of becoming ready."""

        def settled() -> bool:
            return self.pid is None or self._cluster.status == (self.pid, "ready")

        if not wait_until(settled, START_SECONDS):
            raise EmbeddedPostgresError(
                f"PostgreSQL was not ready within {START_SECONDS:.0f} s; {self._log_path} says what it is doing."
            )
        return self.pid is not None

    def _collect_failure(self, log_start: int) -> None:
        """Raise EmbeddedPostgresError with the end of the log, unless only the port was taken and any will do."""
        with self._log_path.open("rb") as log:
            log.seek(log_start)
            output = log.read().decode(errors="replace")
        if os.strerror(errno.EADDRINUSE) not in output:
            raise EmbeddedPostgresError(
                f"PostgreSQL did not start in {self._cluster.path}; its log ends with:\n{last_lines(output)}"
            )
        if self._wanted_port:
            raise _port_refused(self._wanted_port, errno.EADDRINUSE)

    def _create_database(self) -> None:
        address = ["-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", "-d", "postgres"]
        run(
            "psql",
            ["-X", "-q", "-v", "ON_ERROR_STOP=1", *address],
            directory=self._cluster.data_dir,
            stdin=rf"{_query('cluster', 'create_database')} \gexec",
            timeout=60,
            extra={"PGPASSWORD": self._cluster.password, "PGCONNECT_TIMEOUT": "10"},
        )


def _shared_memory() -> dict[str, str]:
    # Containers have a /dev/shm of 64 MB by default, too small for parallel queries; files do the same job.
    try:
        shared = os.statvfs("/dev/shm")
    except OSError:
        return {"dynamic_shared_memory_type": "mmap"}
    roomy = shared.f_blocks * shared.f_frsize >= _ROOMY_SHARED_MEMORY
    return {} if roomy else {"dynamic_shared_memory_type": "mmap"}


def _refuse_taken(port: int) -> None:
    try:
        # With SO_REUSEADDR, as PostgreSQL binds: a connection that lingers is not in the way, a listener is.
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise _port_refused(port, error.errno) from error


def _port_refused(port: int, reason: int | None) -> EmbeddedPostgresError:
    why = os.strerror(reason or errno.EADDRINUSE)
    return EmbeddedPostgresError(
        f"Port {port} on 127.0.0.1 cannot be used ({why}); stop what listens there, or choose another."
    )


def _rotate(log: Path) -> int:
    """Move a log that is too large to `postgres.log.1`, and return the size of the log that is left.

    It is copied and truncated, because the server keeps appending to the file that it has open.
    """
    if not log.exists():
        return 0
    if log.stat().st_size > LOG_BYTES:
        kept = log.with_name(f"{log.name}.1")
        try:
            shutil.copy(log, kept)
        except OSError:  # the disk is full: this log grows no more, and what it says last tells why
            kept.unlink(missing_ok=True)
        else:
            os.truncate(log, 0)
    return log.stat().st_size
