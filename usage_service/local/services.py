"""Services of the local stack: child processes that are started in order, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import structlog
from rich.console import Console

from usage_service.local.children import Child, backoff_seconds, fresh_log
from usage_service.local.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from usage_service.local.owned_process import owned_command
from usage_service.local.sample import write_sample_traffic
from usage_service.local.stack import LocalStack
from usage_service.local.tour import tour
from usage_service.shared.errors import UserError
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import MIRROR, MIRROR_URL

SAMPLE_MINIMUMS = "*=50/10"  # the sample's clients are too few for GLAM's thresholds
# Enough probes that a hot list has something to choose from, and few enough clients that they are there soon.
# The embedded warehouse groups on its disk what does not fit into its memory: docs/speed.md.
SAMPLE = {
    "PROBE_BUILDER_SAMPLE_PROBES": "300",
    "PROBE_BUILDER_SAMPLE_CLIENTS": "1500",
    "PROBE_BUILDER_MINIMUMS": SAMPLE_MINIMUMS,
    "PROBE_BUILDER_MOST_BYTES_TOGETHER": "250000000",
}
SINK = "PROBE_BUILDER_SINK_DATASET"
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
WATCH_SECONDS, LOOK_SECONDS = 0.5, 0.05

log = structlog.get_logger(__name__)


class LocalStackError(UserError):
    """The local stack cannot start; the message says what to change."""


class Services:
    """The child processes of a local stack, and the watch over its database."""

    def __init__(self, stack: LocalStack, postgres: EmbeddedPostgres | None) -> None:
        self._stack = stack
        self._postgres = postgres
        self._children: list[Child] = []

    async def run(self, console: Console) -> None:
        """Run all services until cancelled. Raise ChildError when one does not come up."""
        stack = self._stack
        embedded = stack.settings.project is None
        if self._postgres:
            await install_schema(self._postgres.url, alone=True)
        async with asyncio.TaskGroup() as group:
            seeding = group.create_task(self._seed_warehouse()) if embedded else None
            self._start(group, "server", [*_module("usage_service"), "serve"])
            if self._postgres:
                group.create_task(keep_up(self._postgres))
            loading = group.create_task(self._load_sample(seeding)) if seeding else None
            if seeding:
                await seeding
                place = ["--port", str(stack.warehouse_port), "--data-dir", str(stack.warehouse_dir)]
                self._start(group, "warehouse", [*_module("builder"), "warehouse", "serve", *place])
                stack.warehouse_url_file.write_text(f"{stack.warehouse_url}\n", "utf-8")
            self._start(group, "builder", [*_module("builder"), "run"])
            await _until_healthy(stack)
            stack.port_file.write_text(f"{stack.port}\n", "utf-8")
            if loading:
                await loading
            if stack.mirror:
                self._start(group, "mirror", [*_module("usage_service"), "mirror"])
            if embedded and os.environ.get(SINK):
                await self._once([*_module("builder"), "sink-tables"])
            for child in self._children:
                child.has_come_up = True
            console.print(tour(stack, self._postgres), highlight=False, soft_wrap=True)

    async def stop(self) -> None:
        """End the children, the last one first: the builder can hand back the builds that it works on."""
        if self._children:  # else the port may be that of another stack, for which this one did not start
            self._stack.port_file.unlink(missing_ok=True)
        for child in reversed(self._children):
            await child.stop(STOP_SECONDS)

    def _start(self, group: asyncio.TaskGroup, name: str, argv: list[str]) -> None:
        child = Child(name, argv, self._environ(), fresh_log(self._stack.log_dir, name))
        self._children.append(child)
        group.create_task(child.run())

    async def _seed_warehouse(self) -> None:
        await self._once([*_module("builder"), "warehouse", "seed", "--data-dir", str(self._stack.warehouse_dir)])

    async def _load_sample(self, seeding: asyncio.Task[None]) -> None:
        """Import a catalogue and eight weeks of traffic, once: a marker file says that it is done.

        The catalogue is there before the pings are.
        """
        done = self._stack.data_dir / "sample-loaded"
        if done.exists() or not self._stack.sample:
            return
        catalogue = self._stack.warehouse_dir / "catalogue.ndjson"
        traffic = self._stack.data_dir / "sample-traffic.ndjson"
        await _until_written(catalogue, seeding)
        await _until_healthy(self._stack)
        await asyncio.to_thread(write_sample_traffic, catalogue, traffic, datetime.now(UTC))
        await self._once([*_module("usage_service"), "import", str(catalogue), str(traffic)])
        done.touch()

    async def _once(self, argv: list[str]) -> None:
        process = await asyncio.create_subprocess_exec(*owned_command(argv), env=self._environ())
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if status:
            raise LocalStackError(f"{' '.join(argv[2:])} failed (exit {status})")

    def _environ(self) -> Mapping[str, str]:
        stack = self._stack
        database_url = stack.settings.database_url or (self._postgres.url if self._postgres else "")
        own = {
            "DATABASE_URL": database_url,
            "USAGE_SERVICE_PORT": str(stack.port),
            "USAGE_SERVICE_TOKEN": stack.token,
            "USAGE_SERVICE_VISITOR_SECRET": stack.visitor_secret,
            "USAGE_SERVICE_URL": stack.url,
            "USAGE_SERVICE_BUILD_MISSES": str(stack.settings.builds_misses).lower(),
            "PYTHONUNBUFFERED": "1",
        }
        if stack.settings.project is None:
            own["PROBE_BUILDER_WAREHOUSE_URL"] = stack.warehouse_url
            if stack.mirror:
                own |= {MIRROR: stack.mirror, MIRROR_URL: own["PROBE_BUILDER_WAREHOUSE_URL"]}
                own["USAGE_SERVICE_MIRROR_SECONDS"] = os.environ.get("USAGE_SERVICE_MIRROR_SECONDS", "2")
            return SAMPLE | os.environ | own
        return os.environ | own


async def _until_written(path: Path, writing: asyncio.Task[None]) -> None:
    """Wait for a file that a task writes before its end; raise what the task raises."""
    for _ in range(round(READY_SECONDS / LOOK_SECONDS)):
        if await asyncio.to_thread(path.exists):
            return
        await asyncio.wait([writing], timeout=LOOK_SECONDS)
    await writing


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


async def keep_up(postgres: EmbeddedPostgres) -> None:
    """Start PostgreSQL again when it dies, as often as it takes: it does while its disk is full.

    This blocks the loop meanwhile, because only the main thread may spawn it.
    """
    failures = 0
    while True:
        await asyncio.sleep(WATCH_SECONDS if not failures else backoff_seconds(failures))
        status = postgres.poll()
        if status is None:
            failures = 0
            continue
        log.warning("postgres_died", status=status)
        try:
            postgres.start()
        except (EmbeddedPostgresError, OSError) as error:
            failures += 1
            log.error("postgres_does_not_start", error=str(error), again_in_seconds=backoff_seconds(failures))


async def _until_healthy(stack: LocalStack) -> None:
    """Wait for a server that records and answers, even if a projection of it is stuck."""
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while time.monotonic() < deadline:
            if await _is_healthy(session, stack.url):
                return
            await asyncio.sleep(0.1)
    told = f"the server at {stack.url} was not ready within {READY_SECONDS:.0f} s"
    raise LocalStackError(f"{told}; see {stack.log_dir / 'server.log'}")


async def _is_healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/__heartbeat__") as response:
            checks = (await response.json())["checks"]
            return bool(checks["database"] == checks["listener"] == "ok")
    except (aiohttp.ClientError, TimeoutError):
        return False
