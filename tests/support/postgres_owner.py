"""Own an embedded PostgreSQL until it is ended (`python -m tests.support.postgres_owner DATA_DIR`), and watch one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil

from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import wait_until
from usage_service.local.postgres_programs import binary

FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": "20"}
SECONDS = 20.0


def own(data_dir: Path) -> None:
    """Run the server, say where, and wait to be ended."""
    with EmbeddedPostgres(data_dir, options=FAST) as postgres:
        print(json.dumps({"url": postgres.url, "pid": postgres.pid}), flush=True)
        signal.pause()


@contextmanager
def owner(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a child that owns a server, in a process group of its own as under a terminal."""
    command = [sys.executable, "-m", "tests.support.postgres_owner", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            yield child
        finally:
            child.kill()


def announced_url(child: subprocess.Popen[str]) -> str:
    """Return where the child's server is; fail when the child ended instead."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("{"):
            return str(json.loads(line)["url"])
    raise AssertionError(f"the owner exited with {child.wait(SECONDS)}")


def processes_of(data_dir: Path) -> list[int]:
    """Return every process that names the directory or works in it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), process.cwd()]
            if any(str(data_dir) in word for word in words):
                found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]


def all_gone(data_dir: Path) -> bool:
    """Return whether, within the deadline, no process of the directory is left."""
    return wait_until(lambda: not processes_of(data_dir), SECONDS)


def execute(url: str, *statements: str) -> object:
    """Run statements in one connection; return the first column of the last one's first row."""
    return asyncio.run(_execute(url, statements))


async def _execute(url: str, statements: tuple[str, ...]) -> object:
    async with asyncio.timeout(SECONDS):
        connection = await asyncpg.connect(url)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()


@contextmanager
def busy_client(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a client that is in the middle of a query which goes on for minutes."""
    query = "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b"
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%AS b'"
    with subprocess.Popen([binary("psql"), "-X", "-d", url, "-c", query], stderr=subprocess.DEVNULL) as client:
        try:
            assert wait_until(lambda: execute(url, active) == 1, SECONDS)
            yield client
        finally:
            client.kill()


if __name__ == "__main__":
    own(Path(sys.argv[1]))
