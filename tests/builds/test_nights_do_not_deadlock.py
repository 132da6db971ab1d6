"""People, operators, planners and builders call the functions of nights all at once: nobody waits in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

import asyncpg
import pytest

from tests.support.builders import put_in_catalogue
from tests.support.night_calls import STORE, drain, plan
from tests.support.servers import Connection, eventually, rounds
from tests.support.sessions import waiting
from usage_service.shared.postgres import connect

PROBES = [f"probe_{number}_ms" for number in range(12)]
FENCED = {"UB001", "UB003", "UB010", "23505"}  # the last: rows that another attempt has stored, whose build has ended
START, TIMES = datetime(2026, 11, 24, tzinfo=UTC), 60
ENDED_TWICE = """
SELECT data ->> 'build_id' FROM event_log
WHERE type IN ('build_succeeded', 'build_found_no_data', 'build_cancelled')
   OR type = 'build_failed' AND (data ->> 'final')::boolean
GROUP BY 1 HAVING count(*) > 1
"""
REPORTED = "SELECT cancel_builds_done_by_etl('fog', 'nightly', $1, now() + interval '1 hour', 'etl')"
Deed: TypeAlias = Callable[[Connection, random.Random], Awaitable[object]]


async def ask_for_a_night(database: Connection, chance: random.Random) -> None:
    probes = chance.sample(PROBES, 8)
    await database.fetch("SELECT request_night('fog', 'nightly', $1, NULL, NULL, 'me')", probes)


async def ask_for_a_build(database: Connection, chance: random.Random) -> None:
    await database.fetch("SELECT request_build('fog', 'nightly', $1, 'me')", chance.choice(PROBES))


async def cancel_a_build(database: Connection, chance: random.Random) -> None:
    builds = await database.fetch("SELECT build_id FROM builds WHERE state IN ('queued', 'running')")
    if builds:
        await database.fetch("SELECT cancel_build($1, 'me')", chance.choice(builds)["build_id"])


async def cancel_the_night(database: Connection, chance: random.Random) -> None:
    night = await database.fetchval("SELECT night_id FROM nights WHERE state <> 'over'")
    if night and chance.random() < 0.3:
        await database.fetch("SELECT cancel_night($1, 'me')", night)


async def plan_the_night(database: Connection, chance: random.Random) -> None:
    if await database.fetchval("SELECT EXISTS (SELECT FROM nights WHERE state = 'planning' AND worker IS NULL)"):
        probes = chance.sample(PROBES, 12)
        await plan(database, *filter(None, (probes[:5], probes[5:8], probes[8:])))


async def read_together(database: Connection, chance: random.Random) -> None:
    """Claim jobs and end their builds in any order; the worker of some is never heard of again."""
    for job in await database.fetch(
        "SELECT * FROM claim_shared_jobs('w', $1, 2)", timedelta(seconds=chance.choice([0, 60]))
    ):
        held = job["job_id"], job["attempt"]
        builds = chance.sample(job["builds"], len(job["builds"]))
        for build in builds[:2]:
            async with database.transaction():
                await database.execute(STORE, build)
                await database.execute("SELECT complete_shared_build($1, $2, $3, 1)", *held, build)
        await database.execute("SELECT complete_shared_builds($1, $2, $3, 1)", *held, builds[2:4])
        how = chance.choice(["SELECT complete_shared_job($1, $2, 9)", "SELECT fail_shared_job($1, $2, 'x', 'y')"])
        await database.execute(how, *held)


async def build_alone(database: Connection, chance: random.Random) -> None:
    builds = await database.fetch("SELECT * FROM claim_build('w', $1, 3)", timedelta(seconds=chance.choice([0, 60])))
    ids, attempts = [row["build_id"] for row in builds], [row["attempt"] for row in builds]
    await database.fetch("SELECT complete_builds($1, $2, $3)", ids, attempts, [7] * len(ids))


async def take_what_was_lost(database: Connection, _chance: random.Random) -> None:
    await database.execute("SELECT expire_leases()")
    await database.execute("SELECT expire_shared_lease()")
    await database.execute("SELECT end_nights()")


DEEDS: list[Deed] = [
    ask_for_a_night, ask_for_a_build, cancel_a_build, cancel_the_night, plan_the_night, read_together, build_alone,
    take_what_was_lost,
]  # fmt: skip


async def busy(database_url: str, seed: int, times: int) -> None:
    """Do so many things at random, a day for each six; only what another one has taken meanwhile may be refused."""
    connection = await connect(database_url, application="tests")
    chance = random.Random(seed)
    try:
        await connection.execute("SET statement_timeout = '2min'")
        for number in range(times):
            now = START + number * timedelta(hours=4)
            await connection.execute("SELECT set_config('usage.now', $1, false)", now.isoformat())
            try:
                await chance.choice(DEEDS)(connection, chance)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in FENCED:
                    raise
    finally:
        await connection.close()


@pytest.mark.timeout(400)
async def test_all_at_once_nobody_waits_in_a_circle(database_url: str, database: Connection) -> None:
    await put_in_catalogue(database, *PROBES)
    for seed in range(rounds(1)):
        await asyncio.gather(*(busy(database_url, 100 * seed + number, TIMES) for number in range(8)))
    await drain(database, START + TIMES * timedelta(hours=4))
    assert await database.fetch(ENDED_TWICE) == []
    assert await database.fetchval("SELECT count(*) FROM event_log WHERE type = 'night_ended'") > 0


async def test_what_the_etl_has_built_is_locked_before_the_log(database_url: str, database: Connection) -> None:
    """More builds than a loop reads at once: who cancels the last one holds that, and then waits for the log."""
    probes = [f"done_{number}_ms" for number in range(30)]
    await put_in_catalogue(database, *probes)
    await database.execute("SELECT request_build('fog', 'nightly', probe, 'me') FROM unnest($1::text[]) probe", probes)
    last = await database.fetchval("SELECT build_id FROM builds ORDER BY build_id DESC LIMIT 1")
    etl = await connect(database_url, application="the ETL")
    try:
        async with database.transaction():
            await database.execute("SELECT FROM builds WHERE build_id = $1 FOR NO KEY UPDATE", last)
            reported = asyncio.create_task(etl.fetchval(REPORTED, probes))
            await eventually(partial(waits_for_a_lock, database), "the ETL waits for the build")
            assert await database.fetchval("SELECT cancel_build($1, 'me')", last) == "queued"
        assert await reported == len(probes) - 1
    finally:
        await etl.close()


async def waits_for_a_lock(database: Connection) -> bool:
    return await waiting(database, application="the ETL") > 0
