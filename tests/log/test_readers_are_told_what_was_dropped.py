"""Who asks for events that were dropped is told so, and gets what is left only when that will do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import SECRET, Start
from tests.support.servers import Client, Connection, event, post
from tests.support.traffic import fold_all, ignore
from usage_service.commands.exporting import export_log
from usage_service.imports.posting import PostError
from usage_service.log import reading
from usage_service.log.history import LogReadError, read
from usage_service.retention import PositionRange, drop_old
from usage_service.shared.postgres import Connection as PooledConnection
from usage_service.shared.settings import ServerSettings

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
POSTED, DROPPED = 8, 5
LEFT = [6, 7, 8, 9]  # the last one tells of the dropping


@pytest.fixture
async def client(own_database_url: str, start: Start) -> Client:
    """Return a service with a few events."""
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    await post(client, *(event() for _ in range(POSTED)))
    return client


async def drop(database: Connection, url: str, directory: Path) -> Path:
    await fold_all(database)
    return Path((await drop_old(url, PositionRange(1, DROPPED), directory, ignore)).place)


@pytest.fixture
async def file(client: Client, own_database: Connection, own_database_url: str, tmp_path: Path) -> Path:
    """Drop the first events, and return the file that they are in now."""
    return await drop(own_database, own_database_url, tmp_path)


async def positions(client: Client, asked: str) -> list[int]:
    async with client.get(f"/v1/events?{asked}") as response:
        assert response.status == 200, await response.text()
        return [json.loads(line)["position"] for line in (await response.text()).splitlines()]


async def test_a_whole_log_begins_at_one(client: Client) -> None:
    async with client.get("/v1/events") as response:
        assert (response.status, response.headers["Log-Begin"]) == (200, "1")


@pytest.mark.usefixtures("file")
async def test_what_was_dropped_is_gone_and_what_is_left_is_there(client: Client) -> None:
    for asked in ("", f"after={DROPPED - 1}", "after=2&limit=1", "wait=0&type=page_viewed"):
        for headers in ({}, ARROW):
            async with client.get(f"/v1/events?{asked}", headers=headers) as response:
                assert (response.status, response.headers["Log-Begin"]) == (410, "6"), asked
                body = await response.json()
            assert body["begin"] == DROPPED + 1
            assert body["errors"] == [{"detail": "is before 5", "parameter": "after"}]
            assert "usage-service retention drop" in body["detail"]
    assert await positions(client, f"after={DROPPED}") == LEFT
    assert await positions(client, "partial=true") == LEFT


async def test_what_is_dropped_meanwhile_breaks_the_reading_off(
    client: Client,
    own_database: Connection,
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "RANGE_POSITIONS", 2)
    read_range = reading._read_range
    dropped: list[Path] = []

    async def drop_after_the_first(
        connection: PooledConnection, only: reading.LogFilter, settings: list[str]
    ) -> tuple[bytes, int]:
        lines = await read_range(connection, only, settings)
        if not dropped:
            dropped.append(await drop(own_database, own_database_url, tmp_path))
        return lines

    monkeypatch.setattr(reading, "_read_range", drop_after_the_first)
    with pytest.raises(aiohttp.ClientPayloadError):
        await positions(client, "after=0")
    assert dropped


async def test_a_live_tail_goes_on(
    client: Client, own_database: Connection, own_database_url: str, tmp_path: Path
) -> None:
    async with client.get(f"/v1/events?after={POSTED - 1}&limit=3&wait=20") as response:
        assert json.loads(await response.content.readline())["position"] == POSTED
        await drop(own_database, own_database_url, tmp_path)
        await post(client, event())
        assert [json.loads(line)["position"] for line in (await response.text()).splitlines()] == [9, 10]


@pytest.mark.parametrize("where", ["database", "service"])
async def test_a_program_that_reads_is_told(where: str, client: Client, own_database_url: str, file: Path) -> None:
    source = own_database_url if where == "database" else str(client.make_url("/"))

    def found(after: int, partial: bool) -> list[int]:
        return [event.position for event in read(source, after=after, partial=partial)]

    with pytest.raises(LogReadError, match="up to position 5 were dropped"):
        await asyncio.to_thread(found, DROPPED - 1, False)
    assert await asyncio.to_thread(found, DROPPED, False) == await asyncio.to_thread(found, 0, True) == LEFT
    assert [event.position for event in read(file)] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("file")
async def test_an_export_is_whole_or_says_so(client: Client, tmp_path: Path) -> None:
    path, url = tmp_path / "log.ndjson", str(client.make_url("/"))
    with pytest.raises(PostError, match="up to position 5 were dropped"):
        await asyncio.to_thread(export_log, path, "ndjson", 0, url, None)
    assert not path.exists()
    await asyncio.to_thread(export_log, path, "ndjson", 0, url, None, partial=True)
    assert [json.loads(line)["position"] for line in path.read_text().splitlines()] == LEFT
