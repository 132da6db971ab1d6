"""Projections that BigQuery computes from the mirror are those that PostgreSQL folds and those of the reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

import asyncpg
import pytest
import pytest_asyncio
from google.cloud.bigquery import QueryJob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Emptier, new_database
from tests.projections.test_projections_equal_a_reference import events
from tests.support.commands import runner
from tests.support.mirrors import AT_ONCE, NAME, OPTIONS, mirror_all, mirror_of
from tests.support.poison import POISONS, dead_letters, put_in
from tests.support.servers import Connection, JsonObject, connected, rounds
from tests.support.traffic import (
    append_traffic,
    assert_as_the_reference,
    fold_all,
    ignore,
    leftovers,
    records,
)
from usage_service.ingest.appending import append
from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror import filling
from usage_service.mirror.filling import FillingError, MirrorFilling
from usage_service.projections.rebuilding import MaintenanceError, rebuild, verify
from usage_service.retention import PositionRange, drop_mirrored
from usage_service.shared.bigquery.jobs import JobRunner, Tick
from usage_service.shared.bigquery.jobs import ignore as do_nothing
from usage_service.shared.bigquery.pages import Page
from usage_service.shared.bigquery.statement import Statement
from usage_service.shared.postgres import connect

EVENTS, LATER = 300, 40
OWN = "glam-project.own"
PROJECTIONS = ("popularity", "sessions")
# Put in past every check: at odd times, with odd texts.
ODD = """
INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, visitor, product, channel, probe, source,
                       data, digest)
SELECT last_position() + row_number() OVER (), gen_random_uuid(), type, at::timestamptz, current_instant(),
       md5('odd')::uuid, 'fög', 'c', CASE type WHEN 'probe_viewed' THEN 'žluť "\\' END, 'test', data::jsonb,
       gen_random_uuid()
FROM unnest(ARRAY['0001-01-01T00:00:00.000003Z', '1969-12-31T23:59:59.999999Z', '1970-01-01T00:00:00Z']) at
CROSS JOIN (VALUES ('probe_viewed', '{"found": true}'), ('probe_viewed', '{}'),
                   ('page_viewed', '{"page": "/\\u2028\\t\\"", "referrer": "https://WWW.Bücher.example./\\u2003"}'),
                   ('page_viewed', '{"page": null, "referrer": "a b.example"}'),
                   ('x_odd', '{"bot": 1.5, "control": "no"}')) AS made (type, data)
"""
MANY_NAMES = """
INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, visitor, product, probe, source,
                       data, digest)
SELECT last_position() + n, gen_random_uuid(), 'probe_viewed',
       '2026-11-20T00:00:00Z'::timestamptz + n * interval '1 second', current_instant(), md5('many')::uuid, 'fog',
       format('probe_%s', n % 130), 'test', '{"found": true}', gen_random_uuid()
FROM generate_series(1, 150) n
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mirrored(server_url: str, worker_id: str, place: MirrorPlace) -> AsyncIterator[str]:
    """Make a log whose events are folded, and all but the last mirrored; return its database's name."""
    name = f"usage_{worker_id}_mirrored"
    async with new_database(server_url, name) as url:
        async with connected(url) as database:
            await append_traffic(database, EVENTS)
            await mirror_all(url, place, AT_ONCE._replace(events=120))
            await append_traffic(database, LATER)
            await fold_all(database)
        yield name


@pytest.fixture
async def own_database_url(server_url: str, worker_id: str, mirrored: str) -> AsyncIterator[str]:
    """Return the address of a copy of that database."""
    async with new_database(server_url, f"usage_{worker_id}_own", mirrored) as url:
        yield url


@pytest.fixture
def log(own_database: Connection) -> Connection:
    """Return a connection to that copy."""
    return own_database


@pytest.fixture
def warehouse(place: MirrorPlace) -> MirrorFilling:
    """Return the mirror that all tests read, as projections are filled from it."""
    return MirrorFilling(place, OPTIONS)


@pytest.fixture
def own_place(place: MirrorPlace) -> MirrorPlace:
    """Return the place of a mirror of the test's own, which has nothing yet."""
    place.client().delete_dataset(OWN, delete_contents=True, not_found_ok=True)
    return place._replace(mirror=OWN)


async def test_they_equal_the_live_ones_at_the_end_of_the_log(log: Connection, warehouse: MirrorFilling) -> None:
    for projection in PROJECTIONS:
        verdict = await verify(log, projection, ignore, warehouse)
        assert verdict.equal, verdict
        assert verdict.position == EVENTS + LATER
        assert all(table.live_rows for table in verdict.tables)
    assert not await leftovers(log)
    assert not await asyncio.to_thread(results, warehouse.place)


async def test_odd_times_texts_and_many_names_make_no_difference(
    log: Connection, own_database_url: str, own_place: MirrorPlace
) -> None:
    await log.execute(ODD)
    await log.execute(MANY_NAMES)
    await mirror_all(own_database_url, own_place)
    await fold_all(log)
    for projection in PROJECTIONS:
        verdict = await verify(log, projection, ignore, MirrorFilling(own_place, OPTIONS))
        assert verdict.equal, verdict


async def test_live_ones_may_be_behind_the_mirror(log: Connection, warehouse: MirrorFilling) -> None:
    """As those of a database whose projections have just begun."""
    await log.execute(
        "TRUNCATE sessions, session_counts; UPDATE projections SET position = 0, changed_at = 0 WHERE name = 'sessions'"
    )
    assert (await verify(log, "sessions", ignore, warehouse)).equal
    assert (await rebuild(log, "sessions", {}, ignore, warehouse)).position == EVENTS + LATER
    await assert_as_the_reference(log)


async def test_what_differs_is_named(log: Connection, warehouse: MirrorFilling) -> None:
    changed = await log.fetchval(
        "UPDATE sessions SET came_from = 'nowhere' WHERE visitor = (SELECT min(visitor::text)::uuid FROM sessions)"
        " RETURNING visitor::text"
    )
    verdict = await verify(log, "sessions", ignore, warehouse)
    assert [table.name for table in verdict.tables if not table.equal] == ["sessions"]
    named = [row for where, row in verdict.tables[1].differences if where == "live"]
    assert named
    assert all(changed in row and "nowhere" in row for row in named)


async def test_a_rebuild_is_swapped_in_with_other_settings_and_goes_on_with_the_log(
    log: Connection, warehouse: MirrorFilling
) -> None:
    generation = await log.fetchval("SELECT generation FROM projections WHERE name = 'sessions' AND stage = 'live'")
    filled = await rebuild(log, "sessions", {"gap_minutes": 45, "own_hosts": []}, ignore, warehouse)
    assert filled == (EVENTS + LATER, 0)
    assert generation != await log.fetchval("SELECT generation FROM projections WHERE name = 'sessions'")
    assert (await log.fetchval("SELECT settings FROM projections WHERE name = 'sessions'"))["gap_minutes"] == 45
    await append_traffic(log, LATER)
    await fold_all(log)
    assert (await verify(log, "sessions", ignore)).equal
    assert (await verify(log, "sessions", ignore, warehouse)).equal


@pytest.mark.timeout(300)
@settings(
    max_examples=rounds(2),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    made=st.lists(events(), min_size=3, max_size=40, unique_by=lambda item: item["event_id"]),
    later=st.integers(1, 39),
)
def test_any_log_makes_the_rows_of_the_reference(
    emptier: Emptier, own_place: MirrorPlace, made: list[JsonObject], later: int
) -> None:
    own_place.client().delete_dataset(OWN, delete_contents=True, not_found_ok=True)
    asyncio.run(any_log(emptier.empty(), MirrorFilling(own_place, OPTIONS), made, min(later, len(made) - 1)))


async def any_log(url: str, warehouse: MirrorFilling, made: list[JsonObject], later: int) -> None:
    connection = await connect(url, application="test")
    try:
        await append(connection, records(made[later:]))
        await mirror_all(url, warehouse.place)
        await append(connection, records(made[:later]))
        await fold_all(connection)
        for projection in PROJECTIONS:
            verdict = await verify(connection, projection, ignore, warehouse)
            assert verdict.equal, verdict
        await assert_as_the_reference(connection)
    finally:
        await connection.close()


async def test_what_was_dropped_from_the_log_needs_not_be_put_back(
    log: Connection, own_database_url: str, warehouse: MirrorFilling
) -> None:
    await drop_mirrored(own_database_url, PositionRange(1, 200), NAME, ignore)
    await fold_all(log)
    for projection in PROJECTIONS:
        with pytest.raises(MaintenanceError, match=r"up to position 200 were dropped.*--in bigquery"):
            await rebuild(log, projection, {}, ignore)
        await rebuild(log, projection, {}, ignore, warehouse)
        assert (await verify(log, projection, ignore, warehouse)).equal


async def test_a_rebuild_that_was_begun_there_is_not_gone_on_with_without_what_was_dropped(
    log: Connection, own_database_url: str, warehouse: MirrorFilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drop_mirrored(own_database_url, PositionRange(1, 200), NAME, ignore)
    await fold_all(log)

    async def fails(*_: object) -> None:
        raise FillingError("killed")

    monkeypatch.setattr(filling, "_load", fails)
    with pytest.raises(FillingError, match="killed"):
        await rebuild(log, "sessions", {}, ignore, warehouse)
    with pytest.raises(MaintenanceError, match="up to position 200 were dropped"):
        await rebuild(log, "sessions", {}, ignore)


@pytest.mark.parametrize("statements", [0, 1, 3, 4])
async def test_killed_while_it_loads_it_is_begun_again_with_the_jobs_of_before(
    log: Connection,
    own_database_url: str,
    warehouse: MirrorFilling,
    monkeypatch: pytest.MonkeyPatch,
    statements: int,
) -> None:
    load, loaded = filling._load, list[str]()
    victim = await connect(own_database_url, application="victim")

    async def dies(connection: Connection, table: str, file: BinaryIO) -> None:
        if len(loaded) == statements and connection is victim:
            connection.terminate()
        loaded.append(table)
        await load(connection, table, file)
        if len(loaded) == statements == 4 and connection is victim:
            connection.terminate()

    monkeypatch.setattr(filling, "_load", dies)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await rebuild(victim, "popularity", {}, ignore, warehouse)
    jobs = await asyncio.to_thread(jobs_of_projections, warehouse.place)
    assert await asyncio.to_thread(results, warehouse.place)
    await rebuild(log, "popularity", {}, ignore, warehouse)
    assert await asyncio.to_thread(jobs_of_projections, warehouse.place) == jobs
    assert not await asyncio.to_thread(results, warehouse.place)
    assert (await verify(log, "popularity", ignore)).equal


async def test_what_a_killed_one_computes_as_of_before_is_not_taken_for_what_is_asked_for_now(
    log: Connection, own_database_url: str, own_place: MirrorPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job may end after that of whoever comes then; BigQuery reads a job's rows from the table that it wrote."""
    warehouse = MirrorFilling(own_place, OPTIONS)
    await mirror_all(own_database_url, own_place)
    await append_traffic(log, LATER)
    run_job, fetch, written = JobRunner.run_job, JobRunner.fetch, list[set[str | None]]()

    def noted(
        runner: JobRunner, statement: Statement, tick: Tick = do_nothing, destination: str | None = None
    ) -> QueryJob:
        written[-1].add(destination)
        return run_job(runner, statement, tick, destination)

    def killed(*_: object) -> Iterator[Page]:
        raise FillingError("killed")

    monkeypatch.setattr(JobRunner, "run_job", noted)
    monkeypatch.setattr(JobRunner, "fetch", killed)
    written.append(set())
    with pytest.raises(FillingError, match="killed"):
        await rebuild(log, "popularity", {}, ignore, warehouse)
    monkeypatch.setattr(JobRunner, "fetch", fetch)
    written.append(set())  # of verifications, which have none
    await mirror_all(own_database_url, own_place)
    written.append(set())
    await rebuild(log, "popularity", {}, ignore, warehouse)
    before, _, now = written
    assert before
    assert len(now) == 4
    assert not before & now


async def test_rows_are_fetched_while_no_transaction_is_open(
    log: Connection, warehouse: MirrorFilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that waits for the network for long."""
    fetch, fetched = JobRunner.fetch, list[bool]()

    def slow(runner: JobRunner, job: QueryJob, statement: str) -> Iterator[Page]:
        for page in fetch(runner, job, statement):
            fetched.append(log.is_in_transaction())
            yield page

    monkeypatch.setattr(JobRunner, "fetch", slow)
    await rebuild(log, "popularity", {}, ignore, warehouse)
    assert fetched
    assert not any(fetched)


async def test_of_two_at_once_one_fills_it_and_the_other_goes_on(
    log: Connection, own_database_url: str, warehouse: MirrorFilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results may be gone before the other has fetched them."""
    fetch = JobRunner.fetch
    other = await connect(own_database_url, application="other")
    loop = asyncio.get_running_loop()

    def overtaken(runner: JobRunner, job: QueryJob, statement: str) -> Iterator[Page]:
        monkeypatch.setattr(JobRunner, "fetch", fetch)
        filled = warehouse.fill(other, "popularity", "rebuild", EVENTS)
        asyncio.run_coroutine_threadsafe(filled, loop).result(60)
        return fetch(runner, job, statement)

    monkeypatch.setattr(JobRunner, "fetch", overtaken)
    await rebuild(log, "popularity", {}, ignore, warehouse)
    await other.close()
    assert (await verify(log, "popularity", ignore)).equal


def results(place: MirrorPlace) -> list[str]:
    return [one.table_id for one in place.client().list_tables(NAME) if one.table_id.startswith(filling.RESULT)]


def jobs_of_projections(place: MirrorPlace) -> set[str]:
    return {job.job_id for job in place.client().list_jobs() if job.job_id.startswith("projection-")}


async def test_what_is_set_aside_is_left_out_and_taken_up_once_it_can_be_folded(
    log: Connection, own_database_url: str, own_place: MirrorPlace
) -> None:
    warehouse = MirrorFilling(own_place, OPTIONS)
    await put_in(log, POISONS[0])
    await mirror_all(own_database_url, own_place)
    await fold_all(log)
    aside = await dead_letters(log, "popularity")
    assert aside
    verdict = await verify(log, "popularity", ignore, warehouse)
    assert (verdict.equal, verdict.set_aside) == (True, len(aside)), verdict
    assert (await rebuild(log, "popularity", {}, ignore, warehouse)).set_aside == len(aside)
    assert await dead_letters(log, "popularity") == aside


async def test_what_cannot_be_had_there_is_refused_plainly(
    log: Connection, own_database_url: str, warehouse: MirrorFilling
) -> None:
    with pytest.raises(FillingError, match="catalogue cannot be computed in BigQuery, popularity and sessions can"):
        await verify(log, "catalogue", ignore, warehouse)
    with pytest.raises(FillingError, match="there is no mirror glam-project"):
        await rebuild(
            log, "sessions", {}, ignore, MirrorFilling(warehouse.place._replace(mirror="glam-project.others"))
        )
    await log.execute("UPDATE mirror_loads SET verified_at = NULL")
    with pytest.raises(FillingError, match="nothing that is verified yet; run `usage-service mirror verify`"):
        await rebuild(log, "sessions", {}, ignore, warehouse)
    async with mirror_of(own_database_url, warehouse.place) as mirror:
        await mirror.verify()
    await log.execute("UPDATE mirrors SET begins_after = 7")
    with pytest.raises(FillingError, match="begins after position 7"):
        await rebuild(log, "sessions", {}, ignore, warehouse)
    assert not await leftovers(log)


async def test_the_commands_say_what_they_found(
    log: Connection,
    own_database_url: str,
    place: MirrorPlace,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = runner(capfd, monkeypatch, DATABASE_URL=own_database_url)
    code, _, errors = await run("verify", "--in", "bigquery")
    assert (code, "USAGE_SERVICE_MIRROR: --in bigquery computes from the mirror" in errors) == (2, True), errors
    monkeypatch.setenv("USAGE_SERVICE_MIRROR", NAME)
    monkeypatch.setenv("USAGE_SERVICE_MIRROR_WAREHOUSE_URL", str(place.warehouse_url))
    code, output, _ = await run("verify", "--in", "bigquery")
    assert code == 0
    assert [line.partition(":")[0] for line in output.splitlines() if not line.startswith(" ")] == list(PROJECTIONS)
    code, output, _ = await run("projections", "rebuild", "sessions", "--in", "bigquery")
    assert (code, "sessions: rebuilt and live" in output) == (0, True)
    code, _, errors = await run("projections", "rebuild", "journeys", "--in", "bigquery")
    assert (code, "journeys cannot be computed in BigQuery" in errors) == (2, True), errors
