"""The transitions of a build, as psql would call them: coalesced, fenced, retried, remembered."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.servers import Client, Connection, drained_projections, post, registered
from usage_service.shared.postgres import connect

LEASE = timedelta(seconds=15)
ROW = (
    "fog", "nightly", "gc_ms", 140, "*", "*", "*", "timing_distribution", "", "summed_histogram", 9, 9,
    *["{}"] * 4,
)  # fmt: skip


@pytest.fixture
async def catalogue(client: Client, database: Connection) -> None:
    """Fill the catalogue with a few probes."""
    await post(
        client, registered("gc_ms"), registered("slow_ms"), registered("a_flag", "event"), registered("use_counter_x")
    )
    await drained_projections(database)


async def ask(database: Connection, probe: str = "gc_ms") -> asyncpg.Record:
    row = await database.fetchrow("SELECT * FROM request_build('fog', 'nightly', $1, 'test')", probe)
    assert row is not None
    return row


async def claim(database: Connection, worker: str = "w1", lease: timedelta = LEASE) -> asyncpg.Record | None:
    return await database.fetchrow("SELECT * FROM claim_build($1, $2)", worker, lease)


async def store_rows(database: Connection, build_id: UUID, *rows: tuple[object, ...]) -> None:
    columns = (
        "product, channel, probe, version, ping_type, os, build_id, metric_type, metric_key, client_agg_type, "
        "total_users, total_sample, histogram, percentiles, non_norm_histogram, non_norm_percentiles, built_by"
    )
    records = [(*one, build_id) for one in rows]
    await database.copy_records_to_table("probe_rows", records=records, columns=columns.split(", "))


async def state(database: Connection, build_id: UUID) -> str:
    return str(await database.fetchval("SELECT state FROM builds WHERE build_id = $1", build_id))


async def history(database: Connection) -> list[str]:
    rows = await database.fetch("SELECT type FROM event_log WHERE type LIKE 'build%' ORDER BY position")
    return [row["type"] for row in rows]


pytestmark = pytest.mark.usefixtures("catalogue")


async def test_a_request_is_queued_and_recorded_in_one_transaction(database: Connection) -> None:
    transaction = database.transaction()
    await transaction.start()
    await ask(database)
    await transaction.rollback()
    assert await database.fetchval("SELECT count(*) FROM builds") == 0
    assert await history(database) == []
    asked = await ask(database)
    assert asked["outcome"] == "created"
    assert await history(database) == ["build_requested"]


async def test_requests_at_the_same_time_are_one_build(database_url: str, database: Connection) -> None:
    async def one() -> asyncpg.Record:
        connection = await connect(database_url, role="usage_server", application="test")
        try:
            return await ask(connection)
        finally:
            await connection.close()

    answers = await asyncio.gather(*(one() for _ in range(20)))
    assert len({answer["build_id"] for answer in answers}) == 1
    assert sorted(answer["outcome"] for answer in answers) == ["created"] + ["pending"] * 19
    assert await history(database) == ["build_requested"]


async def test_only_what_the_builder_aggregates_is_queued(database: Connection) -> None:
    assert (await ask(database, "no_such"))["outcome"] == "unknown"
    assert (await ask(database, "a_flag"))["outcome"] == "unbuildable"
    assert (await ask(database, "use_counter_x"))["outcome"] == "excluded"
    assert await database.fetchval("SELECT count(*) FROM builds") == 0


async def test_each_waiting_build_goes_to_one_worker(database: Connection) -> None:
    await ask(database, "gc_ms")
    await ask(database, "slow_ms")
    first, second, third = await claim(database), await claim(database, "w2"), await claim(database, "w3")
    assert first is not None
    assert second is not None
    assert (first["probe"], second["probe"], third) == ("gc_ms", "slow_ms", None)
    assert (first["attempt"], first["state"], first["worker"]) == (1, "running", "w1")


async def test_success_is_fresh_for_the_day_and_asked_again_the_next(database: Connection) -> None:
    await database.execute("SET usage.now = '2026-11-24T23:00:00Z'")
    build = (await ask(database))["build_id"]
    await claim(database)
    await store_rows(database, build, ROW)
    assert await database.fetchval("SELECT complete_build($1, 1, 1000)", build) == 1
    assert await state(database, build) == "succeeded"
    assert (await ask(database))["outcome"] == "fresh"
    await database.execute("SET usage.now = '2026-11-25T00:30:00Z'")
    again = await ask(database)
    assert again["outcome"] == "created"
    assert again["build_id"] != build


async def test_no_data_is_remembered_like_a_success(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database)
    assert await database.fetchval("SELECT complete_build($1, 1, 1000)", build) == 0
    assert await state(database, build) == "no_data"
    assert (await ask(database))["build_id"] == build
    assert await history(database) == ["build_requested", "build_started", "build_found_no_data"]


async def build_on(database: Connection, day: int, *rows: tuple[object, ...]) -> UUID:
    """Build a probe on a day of November with these rows."""
    await database.execute(f"SET usage.now = '2026-11-{day}T10:00:00Z'")
    build: UUID = (await ask(database))["build_id"]
    await claim(database)
    await store_and_complete(database, build, *rows)
    return build


async def store_and_complete(database: Connection, build: UUID, *rows: tuple[object, ...]) -> None:
    """Store rows and end the build, at its first attempt, in one transaction."""
    async with database.transaction():
        await store_rows(database, build, *rows)
        await database.execute("SELECT complete_build($1, 1, 0)", build)


def row(version: int, os: str = "*", kind: str = "timing_distribution") -> tuple[object, ...]:
    return (*ROW[:3], version, ROW[4], os, ROW[6], kind, *ROW[8:])


async def test_a_build_updates_rows_that_match_inserts_others_and_deletes_none(database: Connection) -> None:
    first = await build_on(database, 24, row(149), row(150), row(150, "Windows"))
    second = await build_on(database, 25, row(150), row(151))
    third = await build_on(database, 26, row(150, kind="custom_distribution"))
    rows = await database.fetch(
        "SELECT version, os, metric_type, built_by FROM probe_rows ORDER BY version, os, metric_type"
    )
    assert [tuple(one) for one in rows] == [
        (149, "*", "timing_distribution", first),
        (150, "*", "custom_distribution", third),
        (150, "*", "timing_distribution", second),
        (150, "Windows", "timing_distribution", first),
        (151, "*", "timing_distribution", second),
    ]
    assert await database.fetchval("SELECT rows FROM builds WHERE build_id = $1", second) == 2


async def test_a_build_without_rows_leaves_those_of_earlier_ones(database: Connection) -> None:
    first = await build_on(database, 24, row(150))
    second = await build_on(database, 25)
    assert await state(database, second) == "no_data"
    assert await database.fetchval("SELECT array_agg(built_by) FROM probe_rows") == [first]


async def test_an_attempt_that_was_superseded_changes_no_row(database: Connection) -> None:
    first = await build_on(database, 24, row(150))
    await database.execute("SET usage.now = '2026-11-25T10:00:00Z'")
    second = (await ask(database))["build_id"]
    await claim(database, lease=timedelta(seconds=-1))
    await database.execute("SELECT expire_leases()")
    await claim(database, "w2")
    with pytest.raises(asyncpg.PostgresError) as raised:
        await store_and_complete(database, second, row(150), row(151))
    assert raised.value.sqlstate == "UB001"
    assert await database.fetchval("SELECT array_agg(built_by) FROM probe_rows") == [first]


async def test_a_dead_workers_build_goes_to_the_next(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database, lease=timedelta(seconds=-1))
    assert await database.fetchval("SELECT expire_leases()") == 1
    again = await claim(database, "w2")
    assert again is not None
    assert (again["build_id"], again["attempt"], again["worker"]) == (build, 2, "w2")


async def test_a_stale_worker_changes_nothing(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database, lease=timedelta(seconds=-1))
    await database.fetchval("SELECT expire_leases()")
    await claim(database, "w2")
    before = await database.fetchrow("SELECT * FROM builds")
    for stale in (
        "SELECT heartbeat_build($1, 1, interval '15 s', 'aggregating', 50, 10)",
        "SELECT complete_build($1, 1, 0)",
        "SELECT fail_build($1, 1, 'x', 'y')",
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await database.fetchval(stale, build)
        assert refused.value.sqlstate == "UB001"
    assert await database.fetchrow("SELECT * FROM builds") == before
    assert await history(database) == ["build_requested", "build_started", "build_failed", "build_started"]


async def test_a_retry_waits_its_time_and_attempts_are_bounded(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    for attempt in range(1, 6):
        await database.execute(f"SET usage.now = '2027-01-0{attempt}T00:00:00Z'")
        claimed = await claim(database)
        assert claimed is not None
        assert claimed["attempt"] == attempt
        after = await database.fetchval("SELECT fail_build($1, $2, 'busy', 'later', interval '1 hour')", build, attempt)
        assert after == ("queued" if attempt < 5 else "failed")
        assert await claim(database) is None
    error = await database.fetchval("SELECT error ->> 'message' FROM builds")
    assert error == "later"
    assert (await ask(database))["outcome"] == "created"


async def test_what_will_not_pass_fails_at_once(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database)
    assert await database.fetchval("SELECT fail_build($1, 1, 'invalidQuery', 'no such column')", build) == "failed"
    assert await state(database, build) == "failed"


async def test_progress_is_kept_and_recorded(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    claimed = await claim(database, lease=timedelta(seconds=1))
    assert claimed is not None
    await database.execute("SELECT heartbeat_build($1, 1, interval '60 s', 'aggregating', 40, 12345)", build)
    row = await database.fetchrow("SELECT * FROM builds")
    assert row is not None
    assert (row["stage"], row["percent"], row["bytes"]) == ("aggregating", 40, 12345)
    assert row["lease_until"] > claimed["lease_until"]
    await database.execute("SELECT heartbeat_build($1, 1, interval '60 s')", build)
    assert await history(database) == ["build_requested", "build_started", "build_progressed"]


async def test_what_the_builder_is_told_to_aggregate_is_what_it_can(database: Connection) -> None:
    from builder.aggregates.metric_shapes import SHAPES

    rows = await database.fetch("SELECT metric_type FROM metric_types WHERE buildable")
    assert {row["metric_type"] for row in rows} == set(SHAPES)


async def test_an_unknown_build_is_refused(database: Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="no longer running"):
        await database.fetchval("SELECT complete_build($1, 1, 0)", uuid4())


async def test_what_an_attempt_read_is_counted_once_whatever_comes_after(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database)
    await database.execute("SELECT heartbeat_build($1, 1, interval '60 s', NULL, NULL, 100)", build)
    await database.fetchval("SELECT fail_build($1, 1, 'busy', 'later', interval '1 hour')", build)
    assert await database.fetchval("SELECT cancel_build($1)", build) == "queued"
    assert await database.fetchval("SELECT sum(bytes)::int FROM warehouse_days") == 100


async def test_cancelled_is_told_apart_from_lost(database: Connection) -> None:
    build = (await ask(database))["build_id"]
    await claim(database, lease=timedelta(seconds=-1))
    await database.fetchval("SELECT expire_leases()")
    await claim(database, "w2")
    await database.fetchval("SELECT cancel_build($1)", build)
    for attempt, code in ((1, "UB001"), (2, "UB003")):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await database.fetchval("SELECT heartbeat_build($1, $2, interval '15 s')", build, attempt)
        assert refused.value.sqlstate == code
