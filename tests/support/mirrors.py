"""Mirrors of a test's log in a warehouse of its own, and what they have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from google.cloud import bigquery

from tests.support.servers import Connection
from tests.support.warehouse_support import rows
from tests.support.warehouse_tables import empty_database
from usage_service.local.owned_process import owned_command
from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.folds import SessionRules
from usage_service.mirror.mirroring import Mirror, MirrorLimits, opened_mirror
from usage_service.shared.bigquery.jobs import JobOptions
from usage_service.shared.bigquery.patience import Pauses
from usage_service.shared.postgres import open_pool
from warehouse.serving import served

NAME = "glam-project.usage"
RULES = SessionRules(30, ("glam.telemetry.mozilla.org",), {"looker.com": "Looker", "google.com": "Google"})
AT_ONCE = MirrorLimits(seconds=0)
OPTIONS = JobOptions(deadline_seconds=30, poll_seconds=0.05, pauses=Pauses(first=0.05, longest=0.2))
OF_THE_LOG = """
SELECT position, event_id::text, type, schema_version::bigint, occurred_at, recorded_at, visitor::text, product,
       channel, probe, source, data::text, digest::text
FROM event_log ORDER BY position
"""
OF_THE_MIRROR = """
SELECT position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
       data, digest
FROM `glam-project.usage.event_log` ORDER BY position
"""


@contextmanager
def place_of(database: Path) -> Iterator[MirrorPlace]:
    """Serve a warehouse, and yield the place of a mirror in it."""
    with served(database) as address:
        yield MirrorPlace(NAME, address)


@contextmanager
def new_place(directory: Path) -> Iterator[MirrorPlace]:
    """Serve an empty warehouse, and yield the place of a mirror in it."""
    with place_of(empty_database(directory)) as place:
        yield place


@asynccontextmanager
async def mirror_of(url: str, place: MirrorPlace, limits: MirrorLimits = AT_ONCE) -> AsyncIterator[Mirror]:
    """Open the mirror of a log."""
    async with (
        open_pool(url, role="usage_server", application="test", size=2) as pool,
        opened_mirror(pool, url, place, limits, OPTIONS) as mirror,
    ):
        yield mirror


async def mirror_all(url: str, place: MirrorPlace, limits: MirrorLimits = AT_ONCE) -> int:
    """Mirror a log to its end, and verify it; return how many loads that took."""
    async with mirror_of(url, place, limits) as mirror:
        loads = await mirror.catch_up()
        assert (await mirror.verify()).differing == 0
    return loads


async def log_rows(connection: Connection) -> list[tuple[object, ...]]:
    """Return all that the log has."""
    return [tuple(row) for row in await connection.fetch(OF_THE_LOG)]


def mirrored(client: bigquery.Client) -> list[tuple[object, ...]]:
    """Return all that the mirror has."""
    return rows(client, OF_THE_MIRROR)


class Program:
    """A program in a process of its own, which can be killed and started again."""

    def __init__(self, name: str, arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self._command = owned_command([sys.executable, "-m", *arguments])
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("USAGE_SERVICE_")} | dict(environ)
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def keep_up(self) -> None:
        """Start it, unless it runs."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, env=self._environ, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
