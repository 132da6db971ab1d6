"""What was dropped from the log is read from its mirror as it was; what that does not have for sure is not dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import SECRET, Start
from tests.support.mirrors import AT_ONCE, NAME, mirror_all, mirror_of
from tests.support.servers import Client, Connection
from tests.support.traffic import append_traffic, fold_all, ignore
from usage_service.commands.exporting import export_log
from usage_service.log.arrow import read_rows
from usage_service.log.history import LogReadError, read
from usage_service.log.mirrored import MirrorPlace, MirrorSource
from usage_service.log.reading import LogFilter
from usage_service.log.sources import DatabaseSource
from usage_service.projections.rebuilding import MaintenanceError, verify
from usage_service.retention import PositionRange, drop_mirrored, drop_old, put_back_mirrored
from usage_service.shared.settings import ServerSettings

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
EVENTS, DROPPED = 300, 200
OLD = PositionRange(1, DROPPED)
IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'usage-service maintenance'
  AND state LIKE 'idle in transaction%'
"""
ASKED = [
    "",
    "after=150&limit=100",
    "after=20&limit=30",
    "type=probe_viewed,x_mine",
    "product=fog&since=2026-11-21T00:00:00Z&until=2026-11-22T00:00:00Z",
    "type=x_nothing",
]


@pytest.fixture
async def log(own_database: Connection, own_database_url: str, place: MirrorPlace) -> Connection:
    """Return a log with events that are folded and mirrored, a few a load."""
    place.client().delete_dataset(NAME, delete_contents=True, not_found_ok=True)
    await append_traffic(own_database, EVENTS)
    await fold_all(own_database)
    return own_database


@pytest.fixture
async def client(own_database_url: str, place: MirrorPlace, start: Start) -> Client:
    """Return a service that knows the mirror."""
    settings = ServerSettings(
        database_url=own_database_url, visitor_secret=SECRET, mirror=NAME, mirror_url=place.warehouse_url
    )
    return await start(settings)


async def answers(client: Client, headers: dict[str, str]) -> list[bytes]:
    """Return the answers to all that is asked of the log up to where the dropping is told of."""
    found = []
    for asked in ASKED:
        async with client.get(f"/v1/events?{asked}", headers=headers) as response:
            assert response.status == 200, await response.text()
            found.append(await response.read())
    return found


def without_audit(lines: bytes) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if b'"type":"events_dropped"' not in line)


async def test_what_was_dropped_is_answered_to_the_byte_as_before(
    log: Connection, own_database_url: str, place: MirrorPlace, client: Client, tmp_path: Path
) -> None:
    before = await answers(client, {})
    table = await asyncio.to_thread(lambda: read(own_database_url).table())
    await mirror_all(own_database_url, place, AT_ONCE._replace(events=70))
    moved = await drop_mirrored(own_database_url, OLD, NAME, ignore)
    assert (moved.place, moved.events, moved.upto) == (NAME, DROPPED, DROPPED)
    assert await log.fetchval("SELECT min(position) FROM event_log") == DROPPED + 1
    assert [without_audit(answer) for answer in await answers(client, {})] == before
    async with client.get("/v1/events?partial=true&limit=1") as response:
        assert (await response.json(content_type=None))["position"] == DROPPED + 1
    url = str(client.make_url("/"))
    of_service = await asyncio.to_thread(lambda: read(url, upto=EVENTS).table())
    mirrored = DatabaseSource(own_database_url, mirror=place)
    of_database = await asyncio.to_thread(lambda: list(mirrored.batches(0, EVENTS, LogFilter())))
    assert of_service.equals(table)
    assert [row for batch in of_database for row in batch.to_pylist()] == table.to_pylist()
    exported = tmp_path / "log.parquet"
    await asyncio.to_thread(export_log, exported, "parquet", 0, url, None)
    assert read(exported, upto=EVENTS).table().equals(table)


async def test_what_is_not_verified_is_not_dropped(
    log: Connection, own_database_url: str, place: MirrorPlace, tmp_path: Path
) -> None:
    with pytest.raises(MaintenanceError, match=f"the mirror {NAME} is not there.*give a DIRECTORY"):
        await drop_mirrored(own_database_url, OLD, NAME, ignore)
    async with mirror_of(own_database_url, place, AT_ONCE._replace(events=120)) as mirror:
        await mirror.catch_up()
        for attempt in (
            drop_mirrored(own_database_url, OLD, NAME, ignore),
            drop_old(own_database_url, OLD, tmp_path, ignore),
        ):
            with pytest.raises(MaintenanceError, match="was verified up to position 0: it might not have these events"):
                await attempt
        assert (await mirror.verify(130)).loads == 2
    await drop_mirrored(own_database_url, OLD, NAME, ignore)
    assert await log.fetchval("SELECT count(*) FROM dropped_events") == DROPPED


async def test_it_all_comes_back_from_the_mirror(log: Connection, own_database_url: str, place: MirrorPlace) -> None:
    before = await log.fetch("SELECT l::text FROM event_log l ORDER BY position")
    await mirror_all(own_database_url, place)
    await drop_mirrored(own_database_url, OLD, NAME, ignore)
    assert (await put_back_mirrored(own_database_url, place, ignore)).events == DROPPED
    assert (await put_back_mirrored(own_database_url, place, ignore)).events == 0
    assert (await log.fetch("SELECT l::text FROM event_log l ORDER BY position"))[:EVENTS] == before
    await fold_all(log)
    assert (await verify(log, "sessions", ignore)).equal


async def test_the_mirror_is_read_while_no_transaction_is_open(
    log: Connection, own_database_url: str, place: MirrorPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that waits for the network for long."""
    await mirror_all(own_database_url, place)
    await drop_mirrored(own_database_url, OLD, NAME, ignore)
    found, batches = list[int](), MirrorSource.batches

    def looking(source: MirrorSource, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        for batch in batches(source, after, upto, only):
            [(number,)] = read_rows(own_database_url, None, IN_TRANSACTION, [])
            found.append(number)
            yield batch

    monkeypatch.setattr(MirrorSource, "batches", looking)
    assert (await put_back_mirrored(own_database_url, place, ignore)).events == DROPPED
    assert found
    assert not any(found)


async def test_a_mirror_that_began_later_does_not_pretend(
    log: Connection, own_database_url: str, place: MirrorPlace, client: Client, tmp_path: Path
) -> None:
    await drop_old(own_database_url, PositionRange(1, 50), tmp_path, ignore)
    await mirror_all(own_database_url, place)
    async with client.get("/v1/events") as response:
        assert response.status == 410
        assert "in the mirror of the log, which USAGE_SERVICE_MIRROR names" in (await response.json())["detail"]
    source = DatabaseSource(own_database_url, mirror=place)
    with pytest.raises(LogReadError, match="begins after position 50"):
        await asyncio.to_thread(lambda: list(source.batches(0, EVENTS, LogFilter())))
    await fold_all(log)
    await drop_mirrored(own_database_url, PositionRange(51, 100), NAME, ignore)
    async with client.get("/v1/events?after=50&limit=1") as response:
        assert (response.status, response.headers["Log-Begin"]) == (200, "101")
