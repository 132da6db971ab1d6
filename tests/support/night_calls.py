"""Nights that tests ask for, and move on by the functions of the schema as a builder would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from tests.support.servers import Connection

LEASE = timedelta(seconds=60)
STORE = """
INSERT INTO probe_rows (product, channel, probe, built_by, version, ping_type, os, build_id, metric_type, metric_key,
                        client_agg_type, total_users, total_sample, histogram, percentiles, non_norm_histogram,
                        non_norm_percentiles)
SELECT product, channel, probe, build_id, 140, '*', '*', '*', metric_type, '', 'x', 9, 9, '{}', '{}', '{}', '{}'
FROM builds WHERE build_id = $1
"""
UNDER_WAY = """
SELECT EXISTS (SELECT FROM builds WHERE state IN ('queued', 'running'))
    OR EXISTS (SELECT FROM nights WHERE state <> 'over')
    OR EXISTS (SELECT FROM shared_jobs WHERE state IN ('queued', 'running'))
"""
STUCK = """
SELECT b.probe, b.state, b.prefetched, j.state AS job, n.state AS night
FROM nights n FULL JOIN shared_jobs j USING (night_id) FULL JOIN builds b ON b.shared_job = j.job_id
WHERE b.state IN ('queued', 'running') OR n.state <> 'over' OR j.state IN ('queued', 'running')
"""


async def night_of(database: Connection, *probes: str, channel: str = "nightly") -> UUID:
    """Ask for a night of these probes, 1 request a day being expected for each."""
    asked = await database.fetchrow(
        "SELECT * FROM request_night('fog', $1, $2, $3, NULL, 'test')", channel, list(probes), [1.0] * len(probes)
    )
    assert asked is not None
    return UUID(str(asked["night_id"]))


async def plan(database: Connection, *groups: Sequence[str], left: Sequence[str] = ()) -> list[UUID]:
    """Plan the night that waits for it, if one does: a job for each group, 1,000 bytes a probe. Return the jobs."""
    night = await database.fetchrow("SELECT * FROM claim_night('a planner', $1)", LEASE)
    if night is None:
        return []
    held = night["night_id"], night["attempt"]
    jobs = []
    for group in groups:
        read = [1_000] * len(group)
        job = await database.fetchval(
            "SELECT queue_shared_job($1, $2, $3, $4, $5)", *held, list(group), read, sum(read)
        )
        jobs.append(job)
    await database.execute("SELECT complete_planning($1, $2, $3, $4)", *held, list(left), [10**9] * len(left))
    return jobs


async def claim_jobs(database: Connection, most: int = 10) -> list[asyncpg.Record]:
    """Claim shared jobs that wait."""
    rows: list[asyncpg.Record] = await database.fetch(
        "SELECT * FROM claim_shared_jobs('a worker', $1, $2)", LEASE, most
    )
    return rows


async def complete_job(database: Connection, job: asyncpg.Record, read: int = 1_000) -> None:
    """End the builds of a claimed job, each with a row, and the job."""
    held = job["job_id"], job["attempt"]
    for build in job["builds"]:
        async with database.transaction():
            await database.execute(STORE, build)
            await database.execute("SELECT complete_shared_build($1, $2, $3, 1)", *held, build)
    await database.execute("SELECT complete_shared_job($1, $2, $3)", *held, read)


async def drain(database: Connection, now: datetime) -> None:
    """Play the only builder left, from a time on, until nothing is under way; fail if that never comes."""
    for _hour in range(40):
        now += timedelta(hours=1)
        await database.execute("SELECT set_config('usage.now', $1, false)", now.isoformat())
        await database.execute("SELECT expire_leases()")
        while await database.fetchval("SELECT expire_shared_lease()"):
            pass
        for night in await database.fetch("SELECT * FROM claim_night('the last', $1)", LEASE):
            await _plan_all(database, night["night_id"], night["attempt"])
        for job in await claim_jobs(database):
            await _end_job(database, job)
        for build in await database.fetch("SELECT * FROM claim_build('the last', $1, 100)", LEASE):
            await database.execute("SELECT complete_build($1, $2, 0)", build["build_id"], build["attempt"])
        await database.execute("SELECT end_nights()")
        if not await database.fetchval(UNDER_WAY):
            return
    raise AssertionError(f"under way for ever: {await database.fetch(STUCK)}")


async def _plan_all(database: Connection, night: UUID, attempt: int) -> None:
    probes = await database.fetchval(
        "SELECT coalesce(array_agg(probe), '{}') FROM night_probes WHERE night_id = $1 AND outcome = 'listed'", night
    )
    if probes:
        read = [1] * len(probes)
        await database.execute("SELECT queue_shared_job($1, $2, $3, $4, 1)", night, attempt, probes, read)
    await database.execute("SELECT complete_planning($1, $2, '{}', '{}')", night, attempt)


async def _end_job(database: Connection, job: asyncpg.Record) -> None:
    held = job["job_id"], job["attempt"]
    await database.execute("SELECT complete_shared_builds($1, $2, $3, 1)", *held, job["builds"])
    await database.execute("SELECT complete_shared_job($1, $2, 0)", *held)
