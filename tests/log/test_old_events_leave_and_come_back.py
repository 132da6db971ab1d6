"""Old events are dropped once they are exported just so, and put back as they were; projections keep their history."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SECRET, Start
from tests.support.servers import Connection, JsonObject, event, post
from tests.support.traffic import append_traffic, assert_as_the_reference, fold_all, ignore
from usage_service.commands import retention as commands
from usage_service.imports.importing import import_file
from usage_service.log.history import read
from usage_service.projections.rebuilding import MaintenanceError, add, rebuild, verify
from usage_service.retention import Moved, PositionRange, drop_old, find_old_range, put_back
from usage_service.shared.settings import ServerSettings

OLD = 60
ROWS = "SELECT l::text FROM event_log l ORDER BY position"
AUDIT = "SELECT type, source, data FROM event_log WHERE type LIKE 'events\\_%' ORDER BY position"
HASHES = """
SELECT p.name, h.* FROM projections p
CROSS JOIN LATERAL unnest(p.tables) AS t (name) CROSS JOIN LATERAL hash_table(p.home, t.name) h ORDER BY 1, 3
"""


@pytest.fixture
async def old(own_database: Connection) -> PositionRange:
    """Make traffic that was recorded last year, folded, and some of today; return the range of the old."""
    await own_database.execute("SET usage.now = '2025-11-24T10:00:00Z'")
    await append_traffic(own_database, OLD)
    await own_database.execute("RESET usage.now")
    await append_traffic(own_database, 50)
    await fold_all(own_database)
    found = await find_old_range(own_database, datetime(2026, 1, 1, tzinfo=UTC))
    assert found == PositionRange(1, OLD)
    return found


async def rows(database: Connection) -> list[str]:
    return [row[0] for row in await database.fetch(ROWS)]


async def test_they_are_in_the_file_and_nowhere_else_and_projections_stay(
    own_database_url: str, own_database: Connection, old: PositionRange, tmp_path: Path
) -> None:
    before, projected = await rows(own_database), await own_database.fetch(HASHES)
    moved = await drop_old(own_database_url, old, tmp_path / "exports", ignore)
    path = tmp_path / "exports" / "events-1-60.parquet"
    assert moved == Moved(path, OLD, OLD)
    assert (await rows(own_database))[:-1] == before[OLD:]
    assert await own_database.fetch(HASHES) == projected
    assert read(path).table().num_rows == OLD
    [audit] = await own_database.fetch(AUDIT)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert audit["data"] == {"upto": OLD, "events": OLD, "file": path.name, "sha256": digest}


async def test_they_come_back_as_they_were(
    own_database_url: str, own_database: Connection, old: PositionRange, tmp_path: Path
) -> None:
    before = await rows(own_database)
    path = Path((await drop_old(own_database_url, old, tmp_path, ignore)).place)
    assert (await put_back(own_database_url, path, ignore)).events == OLD
    assert (await put_back(own_database_url, path, ignore)).events == 0
    assert (await rows(own_database))[:-2] == before
    assert [row["type"] for row in await own_database.fetch(AUDIT)] == ["events_dropped", "events_put_back"]
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    assert (await verify(own_database, "sessions", ignore)).equal


async def test_projections_go_on_but_are_not_filled_from_a_part(
    own_database_url: str, own_database: Connection, old: PositionRange, tmp_path: Path
) -> None:
    path = Path((await drop_old(own_database_url, old, tmp_path, ignore)).place)
    refusal = "events up to position 60 were dropped.*usage-service retention restore"
    with pytest.raises(MaintenanceError, match=refusal):
        await rebuild(own_database, "sessions", {}, ignore)
    with pytest.raises(MaintenanceError, match=refusal):
        await verify(own_database, "popularity", ignore)
    statements = (
        "CREATE TABLE mine (n bigint); CREATE FUNCTION fold_mine(bigint, bigint) RETURNS void LANGUAGE sql AS ''"
    )
    with pytest.raises(MaintenanceError, match=refusal):
        await add(own_database, tmp_path / "mine.sql", statements, ignore)
    await append_traffic(own_database, 60)  # of the same visitors and days
    await fold_all(own_database)
    await put_back(own_database_url, path, ignore)
    await fold_all(own_database)
    await assert_as_the_reference(own_database)


async def test_an_event_sent_again_is_known_although_it_was_dropped(
    own_database_url: str, own_database: Connection, start: Start, tmp_path: Path
) -> None:
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    sent: JsonObject = event("probe_viewed")
    [original] = await post(client, sent)
    await fold_all(own_database)
    await drop_old(own_database_url, PositionRange(1, 1), tmp_path, ignore)
    assert await post(client, sent) == [original | {"status": "duplicate"}]
    refused = await client.post("/v1/events", json=sent | {"data": {"found": False}})
    assert (await refused.json())["events"][0]["status"] == "conflict"
    await fold_all(own_database)
    assert await own_database.fetchval("SELECT sum(found + missing) FROM popularity_views WHERE days = 1") == 1


async def test_importing_the_file_again_adds_nothing(
    own_database_url: str, start: Start, old: PositionRange, tmp_path: Path
) -> None:
    path = Path((await drop_old(own_database_url, old, tmp_path, ignore)).place)
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    stats = await import_file(path, str(client.make_url("/")), None)
    assert stats.statuses == Counter(duplicate=OLD)


async def test_what_is_not_folded_is_not_dropped(
    own_database_url: str, own_database: Connection, old: PositionRange, tmp_path: Path
) -> None:
    before = await rows(own_database)
    await own_database.execute("UPDATE projections SET position = 59 WHERE name = 'releases'")
    with pytest.raises(MaintenanceError, match=r"releases \(live\) is at position 59"):
        await drop_old(own_database_url, old, tmp_path, ignore)
    assert await rows(own_database) == before


@pytest.mark.parametrize("column", ["data", "occurred_at", "visitor"])
async def test_a_file_that_was_changed_puts_nothing_back(
    own_database_url: str, own_database: Connection, old: PositionRange, tmp_path: Path, column: str
) -> None:
    path = Path((await drop_old(own_database_url, old, tmp_path, ignore)).place)
    left = await rows(own_database)
    table = pq.read_table(path)
    place, field = table.schema.get_field_index(column), table.schema.field(column)
    backwards = table.column(column).combine_chunks().take(pa.array(range(OLD - 1, -1, -1)))
    pq.write_table(table.set_column(place, field, backwards), path)
    with pytest.raises(MaintenanceError, match="not what was dropped"):
        await put_back(own_database_url, path, ignore)
    assert await rows(own_database) == left


async def test_files_of_before_come_back_without_the_name_of_who_was_erased(
    own_database_url: str, own_database: Connection, tmp_path: Path
) -> None:
    """Earlier versions recorded the pseudonym with the erasure, and exported it."""
    await append_traffic(own_database, 5)
    named = "UPDATE event_log SET type = 'visitor_erased', visitor = gen_random_uuid() WHERE position = 3"
    await own_database.execute(named)
    await fold_all(own_database)
    path = Path((await drop_old(own_database_url, PositionRange(1, 5), tmp_path, ignore)).place)
    for new in (5, 0):
        assert (await put_back(own_database_url, path, ignore)).events == new
    assert await own_database.fetchval("SELECT visitor FROM event_log WHERE position = 3") is None
    again = Path((await drop_old(own_database_url, PositionRange(1, 5), tmp_path, ignore)).place)
    assert [one.visitor for one in read(again) if one.type == "visitor_erased"] == [None]
    assert (await put_back(own_database_url, again, ignore)).events == 5


async def test_what_differs_from_the_log_is_not_dropped(own_database: Connection, old: PositionRange) -> None:
    before = await rows(own_database)
    with pytest.raises(asyncpg.PostgresError, match="9 of 10") as refused:
        await own_database.execute("""
            SELECT drop_events(ARRAY(
                SELECT jsonb_populate_record(e, CASE position WHEN 7 THEN '{"source": "other"}' ELSE '{}' END::jsonb)
                FROM event_log e WHERE position <= 10
            ))
        """)
    assert refused.value.sqlstate == "UB006"
    assert await rows(own_database) == before


async def test_nobody_but_the_owner_may(own_database: Connection) -> None:
    for role in ("usage_server", "usage_builder", "usage_reader", "usage_projections"):
        for function in ("drop_events(event_log[])", "put_back_events(event_log[])"):
            assert not await own_database.fetchval("SELECT has_function_privilege($1, $2, 'EXECUTE')", role, function)
        assert not await own_database.fetchval("SELECT has_table_privilege($1, 'dropped_events', 'DELETE')", role)


async def test_the_commands_say_what_they_did(
    own_database_url: str,
    old: PositionRange,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "events-1-60.parquet"
    for keep_days, said in ((9_000, "nothing is older"), (30, f"{path}: 60 events up to position 60 were dropped")):
        await asyncio.to_thread(commands.drop_command, keep_days, tmp_path, own_database_url)
        assert capsys.readouterr().out == f"{said}\n"
    for said in ("60 events are back", "0 events are back"):
        await asyncio.to_thread(commands.restore_command, [path], own_database_url)
        assert capsys.readouterr().out == f"{path}: {said}\n"
