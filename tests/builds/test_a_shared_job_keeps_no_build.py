"""What somebody waits for is not kept by a job that does not read it, nor does it fail for what others did."""

from __future__ import annotations

import pytest

from tests.support.builders import put_in_catalogue
from tests.support.night_calls import LEASE, claim_jobs, complete_job, night_of, plan
from tests.support.servers import Connection

A, B, C = "a_ms", "b_ms", "c_ms"


@pytest.fixture(autouse=True)
async def planned(database: Connection) -> None:
    """Have a night of three probes planned as one job."""
    await put_in_catalogue(database, A, B, C)
    await night_of(database, A, B, C)
    await plan(database, [A, B, C])


async def build_of(database: Connection, probe: str) -> object:
    return await database.fetchval("SELECT build_id FROM builds WHERE probe = $1", probe)


async def states(database: Connection) -> dict[str, str]:
    return {row["probe"]: row["state"] for row in await database.fetch("SELECT probe, state FROM builds")}


async def test_what_is_asked_for_before_its_job_begins_is_built_while_that_runs(database: Connection) -> None:
    await database.execute("SELECT request_build('fog', 'nightly', $1, 'a person')", B)
    [job] = await claim_jobs(database)
    assert job["builds"] == [await build_of(database, A), await build_of(database, C)]
    claimed = await database.fetch("SELECT * FROM claim_build('w', $1, 5)", LEASE)
    assert [row["probe"] for row in claimed] == [B]
    await complete_job(database, job)
    assert await states(database) == {A: "succeeded", B: "running", C: "succeeded"}


async def test_what_is_asked_for_while_its_job_runs_is_read_by_that(database: Connection) -> None:
    [job] = await claim_jobs(database)
    await database.execute("SELECT request_build('fog', 'nightly', $1, 'a person')", B)
    assert await database.fetch("SELECT * FROM claim_build('w', $1, 5)", LEASE) == []
    await complete_job(database, job)
    assert set((await states(database)).values()) == {"succeeded"}


async def test_one_that_is_left_over_does_not_fail_for_the_others(database: Connection) -> None:
    [job] = await claim_jobs(database)
    for probe in (A, C):
        await database.execute("SELECT cancel_build($1)", await build_of(database, probe))
    held = job["job_id"], job["attempt"]
    assert await database.fetchval("SELECT fail_shared_job($1, $2, 'x', 'of A')", *held) == "split"
    assert await states(database) == {A: "cancelled", B: "queued", C: "cancelled"}
    [alone] = await claim_jobs(database)
    assert alone["builds"] == [await build_of(database, B)]
    assert await database.fetchval("SELECT fail_shared_job($1, 1, 'x', 'of B')", alone["job_id"]) == "failed"
    assert (await states(database))[B] == "failed"


async def test_a_job_that_nobody_needs_any_more_is_not_tried_again(database: Connection) -> None:
    [job] = await claim_jobs(database)
    held = job["job_id"], job["attempt"]
    await database.execute("SELECT fail_shared_job($1, $2, 'busy', 'no slots', '0')", *held)
    for probe in (A, B, C):
        await database.execute("SELECT cancel_build($1)", await build_of(database, probe))
    assert await claim_jobs(database) == []
    assert await database.fetchval("SELECT state FROM shared_jobs") == "done"
    assert await database.fetchval("SELECT end_nights()") == 1


async def test_a_night_that_no_planner_outlives_ends(database: Connection) -> None:
    await database.execute("SELECT cancel_night(night_id) FROM nights")
    await night_of(database, A)
    for attempt in range(1, 6):
        assert await database.fetchval("SELECT attempt FROM claim_night('w', '-1 s')") == attempt
    assert await database.fetchval("SELECT attempt FROM claim_night('w', '-1 s')") is None
    assert await database.fetchval("SELECT end_nights()") == 1
    assert (
        await database.fetchval("SELECT error ->> 'code' FROM nights ORDER BY requested_at DESC LIMIT 1")
        == "lease_lost"
    )
