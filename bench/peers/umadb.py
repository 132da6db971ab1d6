"""UmaDB, an event store in Rust with a server of its own (`umadb`, from PyPI)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.stack import START_SECONDS, BenchError
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import wait_until

if TYPE_CHECKING:
    from umadb import Client, Event

SERVE = "import sys; from umadb.umadb_server_cli import main; sys.exit(main())"


@contextmanager
def serve_umadb(path: Path) -> Iterator[tuple[int, Callable[[], Callable[[list[Any]], object]]] | None]:
    """Run a server on a new file; yield its process id and a function that connects. None when it is not installed."""
    try:
        import umadb
    except ImportError:
        yield None
        return
    listen = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", SERVE, "--listen", listen, "--db-path", str(path)]
    process = subprocess.Popen(owned_command(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connect() -> Client:
        return umadb.Client(f"http://{listen}")

    try:
        if not wait_until(lambda: process.poll() is not None or _answers(connect), START_SECONDS) or process.poll():
            raise BenchError("UmaDB's server did not start")
        yield process.pid, lambda: connect().append
    finally:
        process.terminate()
        process.wait(30)


def umadb_event(event: bytes) -> Event:
    """Return an event as UmaDB takes it, its whole content as data."""
    from umadb import Event

    return Event("bench", event)


def _answers(connect: Callable[[], Client]) -> bool:
    try:
        connect().head()
    except Exception:  # the client has no class of its own for a server that is not there yet
        return False
    return True
