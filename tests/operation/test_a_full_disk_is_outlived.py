"""With PostgreSQL's disk full reads go on and posts are answered with 503; with space again, all goes on by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.conftest import SECRET, Start
from tests.support.servers import Client, event, eventually, post
from tests.support.small_disk import SmallDisk, small_disk
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.services import keep_up
from usage_service.shared.settings import ServerSettings

MEGABYTES = 160
# Little of the write-ahead log is kept for reuse: what is filled is soon full.
LITTLE = {"min_wal_size": "32MB", "max_wal_size": "32MB", "shared_buffers": "16MB"}
OPTIONS = {"fsync": "off", "max_connections": "60"} | LITTLE
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("disk") / "mounted", MEGABYTES) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def postgres(disk: SmallDisk, installed: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(Path(shutil.copytree(installed, disk.path / "postgres")), options=OPTIONS) as started:
        yield started


@pytest.fixture
async def client(postgres: EmbeddedPostgres, start: Start) -> Client:
    return await start(ServerSettings(database_url=postgres.url, visitor_secret=SECRET))


@asynccontextmanager
async def kept_up(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """Start PostgreSQL again when it dies, as `usage-service up` does."""
    task = asyncio.create_task(keep_up(postgres))
    yield
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def posted(client: Client, events: int) -> int:
    """Post events of a kilobyte each, and return the status."""
    response = await client.post("/v1/events", json=[event("x_large", data={"text": "x" * 900}) for _ in range(events)])
    if response.status == 503:
        assert int(response.headers["Retry-After"]) > 0
    return response.status


async def is_well(client: Client) -> bool:
    return (await client.get("/__heartbeat__")).status == 200 and await posted(client, 1) == 201


async def test_a_file_that_cannot_grow_is_known_and_over_with_space(client: Client, disk: SmallDisk) -> None:
    await post(client, event())
    disk.fill()
    try:

        async def is_refused() -> bool:
            return await posted(client, 500) == 503

        await eventually(is_refused, "posts are refused", PATIENCE)
        checks = (await (await client.get("/__heartbeat__")).json())["checks"]
        assert "No space left on device" in checks["recording"]
        for path in ("/v1/events?limit=1", "/v1/popularity", "/v1/sessions", "/__lbheartbeat__"):
            assert (await client.get(path)).status == 200, path
    finally:
        disk.free()
    await eventually(lambda: is_well(client), "all is well", PATIENCE)


async def test_a_postgres_that_cannot_run_is_started_again_once_it_can(
    client: Client, disk: SmallDisk, postgres: EmbeddedPostgres
) -> None:
    """Whatever it ended of, without space for the file that says it runs it cannot start."""
    await post(client, event())
    with capture_logs() as logs:
        async with kept_up(postgres):
            disk.fill()
            try:

                async def does_not_start() -> bool:
                    disk.fill()  # what it gave back when it ended
                    if pid := postgres.pid:
                        os.kill(pid, signal.SIGQUIT)
                    return [entry["event"] for entry in logs].count("postgres_does_not_start") >= 2

                await eventually(does_not_start, "PostgreSQL does not start", PATIENCE)
                assert await posted(client, 1) == 503
            finally:
                disk.free()
            await eventually(lambda: is_well(client), "all is well", PATIENCE)
    said = next(entry["error"] for entry in logs if entry["event"] == "postgres_does_not_start")
    assert "No space left on device" in said
