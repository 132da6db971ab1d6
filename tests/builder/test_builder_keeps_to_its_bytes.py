"""No statement starts that would exceed the day's bytes; the bytes of attempts count, however these end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from tests.support.builders import ROW, put_in_catalogue, request, running_builder, until_state
from tests.support.servers import Connection, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import TransientWorkError

NEEDED = 600
COUNTED = "SELECT coalesce(sum(bytes), 0)::int FROM warehouse_days"


def two_statements(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
    """Run two statements that read 600 bytes each, once they are admitted."""
    for number in range(2):
        control.admit(f"{build.build_id}-{number}", NEEDED)
        progress("aggregating", 40 * number, (number + 1) * NEEDED)
    return BuiltProbe([ROW], 2 * NEEDED, [])


@pytest.fixture(autouse=True)
async def catalogue(database: Connection) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms")


async def test_within_the_limit_it_is_built_and_counted(database: Connection, database_url: str) -> None:
    async with running_builder(database_url, two_statements, most_bytes_a_day=2 * NEEDED):
        await request(database)
        await until_state(database, "succeeded")
    assert await database.fetchval(COUNTED) == 2 * NEEDED


async def test_over_the_limit_it_fails_for_good_and_says_what_to_change(
    database: Connection, database_url: str
) -> None:
    """A refused statement reads nothing: only the first statement counts."""
    async with running_builder(database_url, two_statements, most_bytes_a_day=2 * NEEDED - 1):
        await request(database)
        await until_state(database, "failed")
    error = await database.fetchval("SELECT error FROM builds")
    assert error["code"] == "dailyBytesExceeded"
    for part in ("600 bytes", "1,199", "599", "PROBE_BUILDER_MOST_BYTES_A_DAY"):
        assert part in error["message"]
    assert await database.fetchval(COUNTED) == NEEDED


async def test_what_others_read_today_counts_and_yesterdays_does_not(database: Connection, database_url: str) -> None:
    await database.execute("INSERT INTO warehouse_days VALUES (utc_day(now()) - 1, 1000000), (utc_day(now()), 1)")
    async with running_builder(database_url, two_statements, most_bytes_a_day=2 * NEEDED + 1):
        await request(database)
        await until_state(database, "succeeded")
        await request(database, "slow_ms")
        await until_state(database, "succeeded", "failed")
    assert (
        await database.fetchval("SELECT error ->> 'code' FROM builds WHERE probe = 'slow_ms'") == "dailyBytesExceeded"
    )


async def test_builders_at_the_same_time_do_not_exceed_it_together(database: Connection, database_url: str) -> None:
    """Ten builds ask at once where bytes for three are left: three are admitted, in any order."""
    probes = [f"p{number}" for number in range(10)]
    await put_in_catalogue(database, *probes)

    def one_statement(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        control.admit(str(build.build_id), NEEDED)
        progress("aggregating", 50, NEEDED)
        return BuiltProbe([ROW], NEEDED, [])

    run = partial(running_builder, database_url, one_statement, most_bytes_a_day=3 * NEEDED, concurrency=5)
    async with run(name="b1"), run(name="b2"):
        await asyncio.gather(*[eventually(partial(queued, database, probe), "it is asked for") for probe in probes[:1]])
        for probe in probes[1:]:
            await request(database, probe)
        await until_state(database, "succeeded", "failed")
    assert await database.fetchval(COUNTED) == 3 * NEEDED
    assert await database.fetchval("SELECT count(*) FROM builds WHERE state = 'succeeded'") == 3


async def queued(database: Connection, probe: str) -> bool:
    return bool(await request(database, probe))


@pytest.mark.parametrize("adopts", [True, False])
async def test_jobs_of_attempts_that_failed_are_counted_once_each(
    database: Connection, database_url: str, *, adopts: bool
) -> None:
    """A job that the next attempts adopt is one, and is theirs to finish when nothing is left of the day."""
    attempts: list[int] = []
    paid = NEEDED if adopts else 3 * NEEDED

    def flaky(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        control.admit(f"{build.build_id}-{0 if adopts else len(attempts)}", NEEDED)
        progress("aggregating", 10, NEEDED)
        attempts.append(1)
        if len(attempts) < 3:
            raise TransientWorkError("backendError", "busy")
        return BuiltProbe([ROW], NEEDED, [])

    async with running_builder(database_url, flaky, most_bytes_a_day=paid):
        await request(database)
        await until_state(database, "succeeded")
    assert await database.fetchval(COUNTED) == paid


@pytest.mark.parametrize("read", [0, 100, 2 * NEEDED])
async def test_what_a_job_has_read_takes_the_place_of_what_it_was_to_read(
    database: Connection, database_url: str, read: int
) -> None:
    def settles(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        control.admit(str(build.build_id), NEEDED)
        control.settle(str(build.build_id), read)
        return BuiltProbe([ROW], read, [])

    async with running_builder(database_url, settles):
        await request(database)
        await until_state(database, "succeeded")
    assert await database.fetchval(COUNTED) == read


async def test_percent_never_goes_back_and_nothing_is_told_twice(database: Connection, database_url: str) -> None:
    told = threading.Event()  # a build may be over before its last step is told

    def hesitant(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        for percent in (10, 40, 40, 20, 20, 60):
            progress("aggregating", percent, 10)
            control.wait(0.05)
        assert told.wait(20)
        return BuiltProbe([ROW], 10, [])

    async def last_is_told() -> bool:
        return bool(await database.fetchval("SELECT percent = 60 FROM builds"))

    async with running_builder(database_url, hesitant):
        await request(database)
        await eventually(last_is_told, "the last step is told")
        told.set()
        await until_state(database, "succeeded")
    steps = await database.fetch("SELECT data FROM event_log WHERE type = 'build_progressed' ORDER BY position")
    percents = [row["data"]["percent"] for row in steps]
    assert percents == sorted(set(percents))
    assert percents[-1] == 60
