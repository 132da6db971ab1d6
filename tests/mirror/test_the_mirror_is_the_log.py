"""The mirror has every event of the log once, as the log has it, whatever its loads are and however often made."""

from __future__ import annotations

import asyncio
from datetime import date
from uuid import UUID, uuid4

import asyncpg
import pyarrow as pa
import pytest
from google.cloud.bigquery import QueryJobConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Emptier
from tests.support.mirrors import AT_ONCE, NAME, OPTIONS, RULES, log_rows, mirror_all, mirror_of, mirrored
from tests.support.servers import Connection, rounds
from tests.support.traffic import append_traffic
from tests.support.warehouse_support import rows
from usage_service.log.arrow import SCHEMA
from usage_service.log.mirrored import Load, MirrorPlace
from usage_service.mirror.columns import COLUMNS, id_texts
from usage_service.mirror.loading import Loader
from usage_service.mirror.tables import prepare
from usage_service.mirror.verifying import Verifier
from usage_service.mirror.views import upcasting
from usage_service.shared.bigquery import jobs
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.postgres import connect

LOADS = "SELECT after_position, upto_position, events, partitions FROM mirror_loads ORDER BY 1"
# Events of one type a day, the days in any order: each is in another partition than those beside it.
IMPORT = """
INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, source, data, digest)
SELECT n, gen_random_uuid(), 'x_mine', '2023-11-20T12:00:00Z'::timestamptz + (n * 7919 % $1) * interval '1 day',
       current_instant(), 'import', '{}', gen_random_uuid()
FROM generate_series(1, 2 * $1::integer) n
"""
ODD = """
INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, source, data, digest)
SELECT last_position() + row_number() OVER (), gen_random_uuid(), 'x_odd', at::timestamptz, current_instant(),
       'odd | source', jsonb_build_object('text', E'žluť "\\n\\\\ \\u2028 |'), gen_random_uuid()
FROM unnest(ARRAY['0001-01-01T00:00:00Z', '1969-12-31T23:59:59.999999Z', '2009-12-31T23:59:59.999999Z',
                  '2010-01-01T00:00:00Z']) at
"""


ODD_DAYS = "SELECT CAST(day AS STRING) FROM `glam-project.usage.event_log` WHERE type = 'x_odd' ORDER BY position"
SKIP = "SELECT setval('event_position', last_position() + $1)"
# Only the last load can have been made by one who was killed before it said so.
NOT_SAID = """
UPDATE mirror_loads SET loaded_at = NULL, digest = NULL, verified_at = NULL
WHERE after_position = (SELECT max(after_position) FROM mirror_loads)
"""
VERSIONS = """
SELECT version?, data? FROM UNNEST([1, 2, 3]) AS schema_version CROSS JOIN (SELECT 'x_a' AS type, 'd' AS data) AS made
"""
A_DAY_PASSES = "UPDATE mirror_loads SET planned_at = planned_at - interval '25 hours' WHERE after_position <= $1"
BEHIND_THE_GAP = """
WITH m AS (INSERT INTO mirrors (mirror, begins_after) VALUES ('glam-project.usage', 0))
INSERT INTO mirror_loads (mirror, after_position, upto_position, events, partitions, first_day, last_day, planned_at)
VALUES ('glam-project.usage', 0, last_position(), 6, 1, '2026-11-20', '2026-11-20', now())
"""
DAMAGE = [
    "DELETE `glam-project.usage.event_log` WHERE position = 7",
    "UPDATE `glam-project.usage.event_log` SET data = CONCAT(data, ' ') WHERE position = 30",
]
MANY_LOADS = """
INSERT INTO mirrors (mirror, begins_after) VALUES ('glam-project.usage', 0);
INSERT INTO mirror_loads (mirror, after_position, upto_position, events, partitions, first_day, last_day, digest,
                          planned_at, loaded_at, verified_at)
SELECT 'glam-project.usage', n, n + 1, 1, 1, '2025-01-01', '2025-01-01', '', t, t, t
FROM generate_series(1, 20000) n, LATERAL (SELECT timestamptz '2025-01-01' + n * interval '75 s') t (t);
ANALYZE mirror_loads;
"""
READ = """
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'mirror_loads'
"""


@pytest.fixture
def emptied(place: MirrorPlace) -> MirrorPlace:
    """Return the place without what other tests have there."""
    client = place.client()
    client.delete_dataset(NAME, delete_contents=True, not_found_ok=True)
    return place


async def test_every_event_is_there_once_as_the_log_has_it(
    database: Connection, database_url: str, emptied: MirrorPlace
) -> None:
    await append_traffic(database, 700)
    await database.execute(ODD)
    await database.execute(SKIP, 0)
    assert await mirror_all(database_url, emptied) == 1
    assert mirrored(emptied.client()) == await log_rows(database)
    await append_traffic(database, 30)
    assert await mirror_all(database_url, emptied) == 1
    assert mirrored(emptied.client()) == await log_rows(database)
    assert rows(emptied.client(), ODD_DAYS) == [("1970-01-01",)] * 3 + [("2010-01-01",)]


async def test_a_load_that_is_repeated_is_found_done(
    database: Connection, database_url: str, emptied: MirrorPlace
) -> None:
    await append_traffic(database, 40)
    series = await begun(database_url, emptied)
    loader = Loader(emptied.client(), emptied, database_url, OPTIONS)
    load = Load(0, 40, 40, date(2026, 11, 20), date(2026, 11, 23))
    first, second = loader.load(load, series, Control()), loader.load(load, series, Control())
    assert first.digest == second.digest
    assert len(mirrored(emptied.client())) == 40


async def begun(url: str, place: MirrorPlace) -> UUID:
    async with mirror_of(url, place):
        connection = await connect(url, application="test")
        series: UUID = await connection.fetchval("SELECT series FROM mirrors")
        await connection.close()
    return series


async def test_a_load_that_fails_for_long_is_made_once_it_can_be(
    database: Connection, database_url: str, emptied: MirrorPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_JOBS", 2)
    await append_traffic(database, 20)
    async with mirror_of(database_url, emptied) as mirror:
        emptied.client().delete_table(emptied.table)
        for code in ("notFound", "notFound", "jobsFailed", "notFound"):
            assert not await mirror._step()
            assert await database.fetchval("SELECT error ->> 'code' FROM mirrors") == code
        prepare(emptied.client(), emptied, RULES)
        assert await mirror.catch_up() == 1
        assert await database.fetchval("SELECT failures FROM mirrors") == 0
    assert mirrored(emptied.client()) == await log_rows(database)


async def test_two_that_mirror_at_once_make_the_same_loads(
    database: Connection, database_url: str, emptied: MirrorPlace
) -> None:
    await append_traffic(database, 80)
    limits = AT_ONCE._replace(events=15)
    async with mirror_of(database_url, emptied, limits) as one, mirror_of(database_url, emptied, limits) as other:
        await asyncio.gather(one.catch_up(), other.catch_up())
    assert mirrored(emptied.client()) == await log_rows(database)


@settings(max_examples=rounds(2))
@given(data=st.data())
def test_any_log_in_any_loads_however_often_is_the_mirror(
    data: st.DataObject, emptier: Emptier, place: MirrorPlace
) -> None:
    place.client().delete_dataset(NAME, delete_contents=True, not_found_ok=True)
    asyncio.run(any_log(data, emptier.empty(), place))


async def any_log(data: st.DataObject, url: str, place: MirrorPlace) -> None:
    connection = await connect(url, application="test")
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            await append_traffic(connection, data.draw(st.integers(1, 40)))
            if data.draw(st.booleans()):  # positions that nothing stands at
                await connection.execute(
                    "SELECT setval('event_position', last_position() + $1)", data.draw(st.integers(1, 2_000))
                )
            limits = AT_ONCE._replace(events=data.draw(st.integers(5, 80)), partitions=data.draw(st.integers(1, 4)))
            async with mirror_of(url, place, limits) as mirror:
                await mirror.catch_up()
                if data.draw(st.booleans()):
                    await connection.execute(NOT_SAID)
                    await mirror.catch_up()
        async with mirror_of(url, place) as mirror:
            assert (await mirror.verify()).differing == 0
        assert mirrored(place.client()) == await log_rows(connection)
    finally:
        await connection.close()


async def test_an_import_of_three_years_keeps_to_the_limits_of_bigquery(
    database: Connection, database_url: str, emptied: MirrorPlace
) -> None:
    days = 3 * 365
    await database.execute(IMPORT, days)
    limits = AT_ONCE._replace(partitions=500, partitions_a_day=1_300)
    async with mirror_of(database_url, emptied, limits) as mirror:
        assert await mirror.catch_up() == 3
        assert [tuple(row)[2:] for row in await database.fetch(LOADS)] == [(500, 500), (500, 500), (300, 300)]
        [state] = await database.fetch("SELECT waits_for, behind FROM mirror_status")
        assert tuple(state) == ("changes of partitions a day", 2 * days - 1_300)
        await database.execute(A_DAY_PASSES, 1_300)
        assert await mirror.catch_up() == 2
    async with mirror_of(database_url, emptied, limits._replace(jobs_a_day=2)) as mirror:
        await database.execute(
            "UPDATE mirror_loads SET planned_at = planned_at - interval '25 hours' WHERE after_position = 500"
        )
        assert await mirror.catch_up() == 0
        assert await database.fetchval("SELECT waits_for FROM mirrors") == "load jobs a day"
    async with mirror_of(database_url, emptied, AT_ONCE) as mirror:
        await mirror.catch_up()
        assert (await mirror.verify()).differing == 0
    assert mirrored(emptied.client()) == await log_rows(database)
    assert await database.fetchval("SELECT waits_for FROM mirrors") is None


async def test_a_gap_that_the_mirror_is_behind_is_not_closed(database: Connection) -> None:
    await append_traffic(database, 3)
    await database.execute(SKIP, 5_000_000_000)
    await append_traffic(database, 3)
    await database.execute(BEHIND_THE_GAP)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="a mirror has events of behind position 3"):
        await database.execute("SELECT close_gap()")
    await database.execute("DELETE FROM mirrors")
    await database.execute("SELECT close_gap()")


async def test_few_events_wait_to_go_together(database: Connection, database_url: str, emptied: MirrorPlace) -> None:
    await append_traffic(database, 10)
    async with mirror_of(database_url, emptied, AT_ONCE._replace(seconds=3_600, events=20)) as mirror:
        assert await mirror.catch_up() == 1
        await append_traffic(database, 19)
        assert await mirror.catch_up() == 0
        await append_traffic(database, 22)
        assert await mirror.catch_up() == 2


async def test_a_look_for_the_next_load_reads_a_few_of_all_that_there_were(database: Connection) -> None:
    """A mirror looks every few seconds, and so does who asks the heartbeat; loads of years are kept."""
    await append_traffic(database, 1)
    await database.execute(MANY_LOADS)
    async with database.transaction():
        await database.fetch("SELECT * FROM plan_load($1, 1000, '1 min', 100, 1000, 10000)", NAME)
        await database.fetch("SELECT * FROM mirror_status")
        assert 0 < await database.fetchval(READ) < 100


async def test_what_the_mirror_lost_or_changed_is_found_and_made_again(
    database: Connection, database_url: str, emptied: MirrorPlace
) -> None:
    await append_traffic(database, 60)
    limits = AT_ONCE._replace(events=20)
    client = emptied.client()
    async with mirror_of(database_url, emptied, limits) as mirror:
        await mirror.catch_up()
        for change in DAMAGE:
            rows(client, change)
        assert await mirror.verify() == (3, 2)
        differs = await database.fetch("SELECT differs FROM mirror_loads ORDER BY after_position")
        assert [row[0] for row in differs] == ["19 of 20 events", "other events", None]
        assert await database.fetchval("SELECT mirror_verified_to($1)", NAME) == 0
        assert await mirror.repair() == (2, 0)
        assert await mirror.repair() == (0, 0)
        assert await database.fetchval("SELECT mirror_verified_to($1)", NAME) == 60
    assert mirrored(client) == await log_rows(database)


async def test_repairs_at_once_and_loads_meanwhile_leave_what_the_log_has(
    database: Connection, database_url: str, emptied: MirrorPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_traffic(database, 60)
    await mirror_all(database_url, emptied, AT_ONCE._replace(events=20))
    await asyncio.to_thread(rows, emptied.client(), DAMAGE[0])
    await database.execute("UPDATE mirror_loads SET verified_at = NULL")
    async with mirror_of(database_url, emptied) as mirror, mirror_of(database_url, emptied) as other:
        await mirror.verify()
        differing, remove = await mirror._differing(), Verifier.remove
        loop = asyncio.get_running_loop()

        def repaired_meanwhile(verifier: Verifier, load: Load, control: Control) -> None:
            monkeypatch.setattr(Verifier, "remove", remove)
            asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(60)
            remove(verifier, load, control)

        async def meanwhile() -> None:
            assert await other.repair() == (1, 0)
            await append_traffic(database, 5)
            assert await other._plan() is not None

        monkeypatch.setattr(Verifier, "remove", repaired_meanwhile)
        assert len(differing) == 1
        assert (await mirror.repair()).differing == 0
    assert await asyncio.to_thread(mirrored, emptied.client()) == await log_rows(database)


def test_ids_are_spelled_as_everywhere() -> None:
    ids = [None if n % 7 == 3 else uuid4() for n in range(50)]
    array = pa.array([one.bytes if one else None for one in ids], pa.uuid())
    for some in (slice(0, 50), slice(3, 4), slice(0, 0), slice(10, 31)):
        texts = id_texts(array[some.start : some.stop])
        assert texts.to_pylist() == [str(one) if one else None for one in ids[some]]


def test_columns_and_the_view_are_described(place: MirrorPlace) -> None:
    client = place.client()
    prepare(client, place, RULES)
    prepare(client, place, RULES)
    table, view = client.get_table(place.table), client.get_table(f"{NAME}.events")
    assert (table.time_partitioning.field, table.clustering_fields) == ("day", ["type", "product"])
    assert {field.name for field in table.schema} == set(COLUMNS)
    assert all(field.description for field in [*table.schema, *view.schema])
    assert {field.name for field in view.schema} == set(COLUMNS) - {"digest", "load_after"} | {"late"}
    assert set(SCHEMA.names) <= {field.name for field in table.schema} | {"late"}


def test_another_table_of_that_name_is_refused(place: MirrorPlace) -> None:
    client = place.client()
    other = place._replace(mirror="glam-project.others")
    client.create_dataset(other.mirror)
    client.query("SELECT 1 AS position", job_config=QueryJobConfig(destination=other.table)).result()
    with pytest.raises(PermanentWorkError, match="is no mirror of a log: it lacks the columns channel, data, day"):
        prepare(client, other, RULES)


def test_older_events_are_brought_to_the_current_version_by_the_view(place: MirrorPlace) -> None:
    def upcast(kind: str, version: int, data: str) -> str:
        assert kind == "x_a"
        return f"CONCAT({data}, '+{version}')"

    parts = upcasting([("x_a", 1), ("x_a", 2)], {"x_a": 3}, upcast)
    found = rows(place.client(), VERSIONS.replace("version?", parts["schema_version"]).replace("data?", parts["data"]))
    assert sorted(found) == [(3, "d"), (3, "d+1+2"), (3, "d+2")]
    assert upcasting([], {}, upcast) == {"schema_version": "schema_version", "data": "data"}
