"""PgBouncer in transaction mode before a test's PostgreSQL.

It is what PGBOUNCER names, an installed one of 1.21 or later, or the one that `.ci/pgbouncer` has put into the user's
cache.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import platformdirs
import pytest

from tests.support.servers import eventually
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port

SUPPORTED = (1, 21)
CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_prepared_statements = 100
{more}
"""


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def _found_program() -> str | None:
    """Return the path of the first PgBouncer that is new enough."""
    fetched = platformdirs.user_cache_path("glam-usage") / "pgbouncer" / "pgbouncer"
    candidates = [os.environ.get("PGBOUNCER"), "pgbouncer", str(fetched)]
    programs = (shutil.which(candidate) for candidate in candidates if candidate)
    return next((program for program in programs if program and _version(program) >= SUPPORTED), None)


PROGRAM = _found_program()
needs_pgbouncer = pytest.mark.skipif(not PROGRAM, reason="PgBouncer 1.21 or later is not installed (.ci/pgbouncer)")


async def _accepts(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Pooler(NamedTuple):
    """The command of a pooler before a PostgreSQL, and its own address."""

    command: list[str]
    url: str
    port: int


def configured(url: str, directory: Path, size: int = 3, more: str = "") -> Pooler:
    """Write the configuration of a pooler with `size` sessions for all its clients together; `more` is added to it."""
    parts = urlsplit(url)
    port = free_port()
    users, configuration = directory / "users.txt", directory / "pgbouncer.ini"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    configuration.write_text(
        CONFIGURATION.format(host=parts.hostname, port=parts.port, listen_port=port, users=users, size=size, more=more)
    )
    command = owned_command([str(PROGRAM), str(configuration)], unprivileged=True, directory=directory)
    address = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
    return Pooler(command, urlunsplit(parts._replace(netloc=address)), port)


@asynccontextmanager
async def pooled(url: str, directory: Path, size: int = 3, more: str = "") -> AsyncIterator[str]:
    """Run a pooler, and yield its address."""
    pooler = configured(url, directory, size, more)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*pooler.command, stdout=quiet, stderr=quiet)
    try:
        await eventually(partial(_accepts, pooler.port), "the pooler accepts connections")
        yield pooler.url
    finally:
        process.kill()  # at SIGTERM it waits for its clients to go
        await process.wait()
