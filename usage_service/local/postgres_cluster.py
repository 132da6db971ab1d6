"""PostgreSQL data directory: made whole or not at all, with a password, and never used by two servers at once."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from usage_service.local.postgres_programs import EmbeddedPostgresError, major_version, run
from usage_service.shared.files import sync_directory

INITDB_SECONDS = 120.0
RELEASE_SECONDS = 60.0
# A server whose owner was killed a moment ago may seem to be a live one for so long.
GRACE_SECONDS = 1.0
_PROC = Path("/proc")


class ServerStatus(NamedTuple):
    """The content of postmaster.pid: the process id, and `starting`, `ready` or `stopping`."""

    pid: int
    state: str


class PostgresCluster:
    """The files of an embedded server in `data_dir`: `cluster/`, `password` (mode 0600) and `lock`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.path = self.data_dir / "cluster"
        self._pid_file = self.path / "postmaster.pid"

    @contextmanager
    def claimed(self) -> Iterator[int]:
        """Lock the directory for all processes that inherit the yielded file descriptor, until the last of them ends.

        Wait for a server that is shutting down or starting. Raise EmbeddedPostgresError when one goes on running.
        """
        with _writable(self.data_dir / "lock") as lock:
            if not self._await_release(lock):
                raise EmbeddedPostgresError(self._occupied())
            if _PROC.exists():
                # No server is left, so whatever process the file names has nothing to do with PostgreSQL.
                self._pid_file.unlink(missing_ok=True)
            yield lock

    def ensure(self, *, lock: int, durable: bool) -> None:
        """Check the cluster, or make it; call this while it is claimed."""
        for leftover in self.data_dir.glob("initdb-*"):  # of a first start that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        if self.path.exists() and any(self.path.iterdir()):
            self._check()
        else:
            self._create(lock, durable=durable)

    @property
    def password(self) -> str:
        """Return the superuser's password, which is kept beside the cluster."""
        try:
            return (self.data_dir / "password").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"The password of the database in {self.path} is gone; restore {self.data_dir / 'password'}, "
                "or choose another --data-dir."
            ) from None

    @property
    def status(self) -> ServerStatus | None:
        """Return the server's own description of its state, or None when there is none (yet)."""
        try:
            lines = self._pid_file.read_text().splitlines()
            return ServerStatus(int(lines[0]), lines[7].strip())
        except (OSError, ValueError, IndexError):
            return None

    def processes(self) -> list[int]:
        """Return the ids of all PostgreSQL processes of this cluster, servers and backends (none without /proc)."""
        with suppress(OSError):
            here = self.path.stat()
            return [int(p.name) for p in _PROC.glob("[0-9]*") if _works_in(p, here)]
        return []

    def kill(self) -> None:
        """Kill every process of this cluster at once; its next start recovers from the write-ahead log."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _await_release(self, lock: int) -> bool:
        def free() -> bool:
            return _lock(lock) and not self.processes()

        def settled() -> bool:
            return free() or self._is_ready()

        if wait_until(free, GRACE_SECONDS) or (wait_until(settled, RELEASE_SECONDS) and free()):
            return True
        if not any(_is_postmaster(pid) for pid in self.processes()):
            # Backends whose server died: no client can reach them, and they end by themselves only when idle.
            self.kill()
            return wait_until(free, GRACE_SECONDS)
        return False

    def _is_ready(self) -> bool:
        status = self.status
        return status is not None and status.state == "ready"

    def _occupied(self) -> str:
        pids = [pid for pid in self.processes() if _is_postmaster(pid)] or ([s.pid] if (s := self.status) else [])
        who = f"process {pids[0]}" if pids else "another process"
        return f"{self.path} is in use by {who}; stop that one, or choose another --data-dir."

    def _check(self) -> None:
        try:
            found = (self.path / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"{self.path} holds no PostgreSQL cluster; move it away, or choose another --data-dir."
            ) from None
        if found != major_version():
            raise EmbeddedPostgresError(
                f"{self.path} belongs to PostgreSQL {found}, this program brings {major_version()}; "
                "dump and restore, or choose another --data-dir."
            )

    def _create(self, lock: int, *, durable: bool) -> None:
        _write_secret(self.data_dir / "password")
        workshop = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.data_dir))
        try:
            shutil.copy(self.data_dir / "password", workshop / "password")
            _initdb(workshop, lock, durable=durable)
            # The rename is what makes it a cluster: initdb has synchronised the files by now.
            (workshop / "cluster").rename(self.path)
            sync_directory(self.data_dir)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for `condition`, tried at least once, and return whether it came true within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def _writable(path: Path) -> Iterator[int]:
    try:
        # Other users may pass through, to files that only their owner can open: the server may run as another user.
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{path.parent} is not writable ({error.strerror}); give access, or choose another --data-dir."
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _works_in(process: Path, directory: os.stat_result) -> bool:
    try:
        is_postgres = Path(process, "exe").readlink().name.split(" ")[0] == "postgres"
        return is_postgres and os.path.samestat(Path(process, "cwd").stat(), directory)
    except OSError:
        return False


def _is_postmaster(pid: int) -> bool:
    # Backends call themselves `postgres: checkpointer` and so on.
    with suppress(OSError):
        return not Path(_PROC, str(pid), "cmdline").read_bytes().startswith(b"postgres:")
    return False


def _write_secret(path: Path) -> None:
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(24) + "\n")
        new.replace(path)


def _initdb(workshop: Path, lock: int, *, durable: bool) -> None:
    arguments = ["-D", str(workshop / "cluster"), "-U", "postgres", "-E", "UTF8"]
    arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    arguments += ["--auth=scram-sha-256", f"--pwfile={workshop / 'password'}", "--no-instructions"]
    arguments += [] if durable else ["--no-sync"]
    run("initdb", arguments, directory=workshop, unprivileged=True, pass_fds=(lock,), timeout=INITDB_SECONDS)
