"""A night's probes are read together, and each build ends once: with its rows, without, or with an error of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from builder.aggregates.probe import BuildRequest, Rows
from tests.support.builders import ROW, WRONG_BUILDS, put_in_catalogue, request, running_builder
from tests.support.nights import COMMON_BYTES, OWN_BYTES, MadeUp, Read, a_row_each, request_night, until_over
from tests.support.servers import Connection, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError

PROBES = [f"probe_{number:02}" for number in range(23)]


async def states(database: Connection) -> dict[str, str]:
    rows = await database.fetch("SELECT probe, state FROM builds ORDER BY probe")
    return {row["probe"]: row["state"] for row in rows}


async def totals(database: Connection, night: UUID) -> dict[str, Any]:
    row = await database.fetchrow("SELECT * FROM night_totals WHERE night_id = $1", night)
    assert row is not None
    return dict(row)


def held() -> tuple[threading.Event, Read]:
    """Make a reading that goes on when the event says so."""
    go_on = threading.Event()

    def read(job: UUID, requests: Sequence[BuildRequest], control: Control) -> Sequence[Rows | PermanentWorkError]:
        while not go_on.is_set():
            control.wait(0.02)
        return a_row_each(job, requests, control)

    return go_on, read


async def until_begun(made_up: MadeUp) -> None:
    async def begun() -> bool:
        return made_up.begun.is_set()

    await eventually(begun, "a job is read")


async def test_a_list_is_read_in_few_jobs(own_database_url: str, own_database: Connection) -> None:
    probes = [*PROBES, "probe_none"]
    await put_in_catalogue(own_database, *probes)
    made_up = MadeUp()
    async with running_builder(own_database_url, readings=made_up.readings):
        night = await request_night(own_database, [*probes, "unknown_ms"])
        await until_over(own_database, night)
    assert [len(read) for _, read in sorted(made_up.jobs, key=lambda job: job[1])] == [10, 10, 4]
    assert await states(own_database) == {**dict.fromkeys(PROBES, "succeeded"), "probe_none": "no_data"}
    assert await own_database.fetch(WRONG_BUILDS, 1) == []
    read = 3 * COMMON_BYTES + 24 * OWN_BYTES
    [event] = await own_database.fetch("SELECT data FROM event_log WHERE type = 'night_ended'")
    said = {**event["data"]}
    assert said.pop("seconds") > 0
    assert said == {
        "night_id": str(night), "probes": 25, "probes_left": 0, "not_needed": 1, "built": 23, "without_data": 1,
        "failed": 0, "cancelled": 0, "to_build": 0, "jobs": 3, "jobs_over": 3, "bytes": read, "expected_bytes": read,
    }  # fmt: skip
    assert await own_database.fetchval("SELECT sum(bytes) FROM warehouse_days") == read
    shares = await own_database.fetch("SELECT data FROM event_log WHERE type = 'build_succeeded'")
    assert {share["data"]["bytes"] for share in shares} == {
        COMMON_BYTES // 10 + OWN_BYTES,
        COMMON_BYTES // 4 + OWN_BYTES,
    }
    assert all("seconds" not in share["data"] and share["data"]["shared_job"] for share in shares)


async def test_what_is_fresh_or_under_way_is_not_built_again(own_database_url: str, own_database: Connection) -> None:
    await put_in_catalogue(own_database, *PROBES[:3])
    async with running_builder(own_database_url, readings=MadeUp().readings):
        await until_over(own_database, await request_night(own_database, PROBES[:2]))
        again = await request_night(own_database, PROBES[:3])
        await until_over(own_database, again)
    outcomes = await own_database.fetch("SELECT outcome FROM night_probes WHERE night_id = $1 ORDER BY probe", again)
    assert [row["outcome"] for row in outcomes] == ["fresh", "fresh", "listed"]


async def test_beyond_its_bytes_the_least_worth_is_left(own_database_url: str, own_database: Connection) -> None:
    await put_in_catalogue(own_database, *PROBES[:10])
    made_up = MadeUp()
    async with running_builder(own_database_url, readings=made_up.readings):
        values = [float(number) for number in range(10)]
        night = await request_night(own_database, PROBES[:10], values, COMMON_BYTES + 6 * OWN_BYTES + 50)
        await until_over(own_database, night)
    [(_, read)] = made_up.jobs
    assert sorted(read) == PROBES[4:10]
    left = await own_database.fetch("SELECT probe, bytes FROM night_probes WHERE outcome = 'left' ORDER BY probe")
    assert [tuple(row) for row in left] == [(probe, OWN_BYTES) for probe in PROBES[:4]]
    assert (await totals(own_database, night))["probes_left"] == 4


async def test_a_probe_at_fault_fails_alone(own_database_url: str, own_database: Connection) -> None:
    """One of the rows cannot be made; another one lets every job fail that reads it."""
    await put_in_catalogue(own_database, *PROBES)

    def read(job: UUID, requests: Sequence[BuildRequest], control: Control) -> Sequence[Rows | PermanentWorkError]:
        probes = [request.probe for request in requests]
        if PROBES[7] in probes:
            raise PermanentWorkError("invalidQuery", "no such field")
        return [PermanentWorkError("tooManyCells", "too large") if probe == PROBES[11] else [ROW] for probe in probes]

    made_up = MadeUp(read)
    async with running_builder(own_database_url, readings=made_up.readings):
        night = await request_night(own_database, PROBES)
        await until_over(own_database, night)
    assert await states(own_database) == {
        **dict.fromkeys(PROBES, "succeeded"),
        PROBES[7]: "failed",
        PROBES[11]: "failed",
    }
    errors = await own_database.fetch(
        "SELECT probe, error ->> 'code' FROM builds WHERE state = 'failed' ORDER BY probe"
    )
    assert [tuple(row) for row in errors] == [(PROBES[7], "invalidQuery"), (PROBES[11], "tooManyCells")]
    assert len(made_up.jobs) <= 3 + 2 * 4  # of ten, of five, of two or three, of one or two
    assert (await totals(own_database, night))["failed"] == 2


async def test_a_fault_that_passes_is_tried_again_with_the_same_probes(
    own_database_url: str, own_database: Connection
) -> None:
    await put_in_catalogue(own_database, *PROBES[:5])
    attempts = 0

    def read(job: UUID, requests: Sequence[BuildRequest], control: Control) -> Sequence[Rows | PermanentWorkError]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise TransientWorkError("backendError", "try again")
        return a_row_each(job, requests, control)

    made_up = MadeUp(read)
    async with running_builder(own_database_url, readings=made_up.readings):
        await until_over(own_database, await request_night(own_database, PROBES[:5]))
    assert made_up.jobs == [made_up.jobs[0]] * 3
    assert set((await states(own_database)).values()) == {"succeeded"}


async def test_somebody_who_waits_comes_first_and_the_job_goes_without(
    own_database_url: str, own_database: Connection
) -> None:
    """While one job is read, a probe of the next one is asked for."""
    await put_in_catalogue(own_database, *PROBES[:4])
    go_on, read = held()
    made_up = MadeUp(read, most=2)
    async with running_builder(own_database_url, readings=made_up.readings, shared_jobs=1):
        night = await request_night(own_database, PROBES[:4])
        await until_begun(made_up)
        waited_for = (set(PROBES[:4]) - set(made_up.jobs[0][1])).pop()
        await request(own_database, waited_for)

        async def is_built() -> bool:
            return (await states(own_database))[waited_for] == "succeeded"

        await eventually(is_built, "it is built while the job is read")
        go_on.set()
        await until_over(own_database, night)
    assert waited_for not in [probe for _, probes in made_up.jobs for probe in probes]
    assert set((await states(own_database)).values()) == {"succeeded"}


async def test_to_cancel_one_build_stops_no_job(own_database_url: str, own_database: Connection) -> None:
    await put_in_catalogue(own_database, *PROBES[:4])
    go_on, read = held()
    made_up = MadeUp(read)
    async with running_builder(own_database_url, readings=made_up.readings):
        night = await request_night(own_database, PROBES[:4])
        await until_begun(made_up)
        await own_database.execute("SELECT cancel_build(build_id, 'test') FROM builds WHERE probe = $1", PROBES[2])
        go_on.set()
        await until_over(own_database, night)
    assert len(made_up.jobs) == 1
    assert await states(own_database) == {**dict.fromkeys(PROBES[:4], "succeeded"), PROBES[2]: "cancelled"}
    assert await own_database.fetchval("SELECT count(*) FROM probe_rows WHERE probe = $1", PROBES[2]) == 0


async def test_a_cancelled_night_stops_its_jobs(own_database_url: str, own_database: Connection) -> None:
    await put_in_catalogue(own_database, *PROBES)
    stopped = threading.Event()

    def read(job: UUID, requests: Sequence[BuildRequest], control: Control) -> Sequence[Rows | PermanentWorkError]:
        with control.cancelling(stopped.set):
            while True:
                control.wait(20)

    made_up = MadeUp(read)
    async with running_builder(own_database_url, readings=made_up.readings, shared_jobs=1):
        night = await request_night(own_database, PROBES)
        await until_begun(made_up)
        await own_database.execute("SELECT cancel_night($1, 'test')", night)

        async def is_stopped() -> bool:
            return stopped.is_set()

        await eventually(is_stopped, "the job is stopped")
    assert set((await states(own_database)).values()) == {"cancelled"}
    assert len(made_up.jobs) == 1


@pytest.mark.parametrize("most_bytes_a_day", [0, COMMON_BYTES + OWN_BYTES])
async def test_a_night_keeps_to_the_bytes_of_the_day(
    own_database_url: str, own_database: Connection, most_bytes_a_day: int
) -> None:
    await put_in_catalogue(own_database, *PROBES[:4])
    made_up = MadeUp()
    async with running_builder(own_database_url, readings=made_up.readings, most_bytes_a_day=most_bytes_a_day):
        night = await request_night(own_database, PROBES[:4])
        await until_over(own_database, night)
    built = 1 if most_bytes_a_day else 0
    assert (await totals(own_database, night))["built"] == built
    assert (await totals(own_database, night))["probes_left"] == 4 - built


@pytest.mark.parametrize(
    ("together", "jobs"),
    [
        (COMMON_BYTES + 2 * OWN_BYTES, [2, 2]),
        (COMMON_BYTES + 4 * OWN_BYTES, [3, 3, 4]),
        (COMMON_BYTES, [1, 1, 1, 1]),
        (0, [1, 1, 1, 1]),
    ],
)
async def test_so_many_bytes_are_read_together(
    own_database_url: str, own_database: Connection, together: int, jobs: list[int]
) -> None:
    """Nobody is left for it: who is alone may read what any build may. There are no more jobs than that takes."""
    probes = PROBES[: sum(jobs)]
    await put_in_catalogue(own_database, *probes)
    made_up = MadeUp()
    async with running_builder(own_database_url, readings=made_up.readings, most_bytes_together=together):
        night = await request_night(own_database, probes)
        await until_over(own_database, night)
    assert (await totals(own_database, night))["built"] == len(probes)
    assert [len(read) for _, read in made_up.jobs] == jobs
