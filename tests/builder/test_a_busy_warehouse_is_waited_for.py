"""What the warehouse gets over is waited for, with the same job, until the build is stopped or its time is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from google.cloud import bigquery

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.builds import Aggregate
from builder.running import Builder
from tests.builder.test_build_jobs_are_adopted import COUNT, ENDLESS, runner
from tests.support.builders import PROBE, ROW, put_in_catalogue, request, running_builder, until_stage, until_state
from tests.support.ping_makers import random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import Connection, eventually
from tests.support.warehouse_faults import CANCEL, GET_JOB, GET_PAGE, INSERT, LIST, Fault, Faults
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WarehouseBusyError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner, ignore, stop_jobs
from usage_service.shared.bigquery.pages import rows_of
from usage_service.shared.bigquery.patience import Pauses

LONG = Pauses(first=600, longest=600)
PAUSES = Pauses(first=0.001, longest=0.002)
HASTY = JobOptions(poll_seconds=0.02, pauses=PAUSES, deadline_seconds=30)
MINUTES = 15  # tries: as many as five minutes of a quota take, with a minute at most between two
NO_JOB, NO_TABLE = "Not found: Job local-project:US.build-1", "Not found: Table a:b.jobs was not found in location US"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bigquery.Client, Faults]]:
    path: Path = tmp_path_factory.mktemp("busy") / "pings.duckdb"
    faults = Faults()
    with warehouse(path, random_pings(1, 300), [faults.middleware]) as client:
        yield client, faults


@pytest.fixture
def bigquery_client(served: tuple[bigquery.Client, Faults]) -> bigquery.Client:
    return served[0]


@pytest.fixture
def faults(served: tuple[bigquery.Client, Faults]) -> Iterator[Faults]:
    """Return the faults of the warehouse: none at first, and none left behind."""
    served[1].end()
    yield served[1]
    served[1].end()


QUOTAS = ["rateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded"]
FAULTS = [*QUOTAS, "backendError", "internalError", 0, 429, 502, 503]
PLACES = [
    *((INSERT, fault) for fault in FAULTS),
    *((place, fault) for place in (GET_JOB, GET_PAGE) for fault in FAULTS[1::4]),
]


@pytest.mark.parametrize(("requests", "fault"), PLACES)
def test_a_quota_or_a_fault_of_minutes_is_waited_for(
    bigquery_client: bigquery.Client, faults: Faults, requests: str, fault: str | int
) -> None:
    reason, status = (fault, 0) if isinstance(fault, str) else ("", fault)
    begun = faults.begin(Fault(requests, reason, MINUTES, status=status))
    run = runner(bigquery_client, uuid4(), HASTY)
    [row] = rows_of(run.run(COUNT, ignore))
    assert row["pings"] > 0
    assert begun.times == 0
    assert len(run.job_ids) == 1
    assert not run.job_ids[0].endswith("-2")


@pytest.mark.parametrize("requests", [GET_JOB, GET_PAGE])
def test_a_job_that_is_not_to_be_seen_yet_is_waited_for(
    bigquery_client: bigquery.Client, faults: Faults, requests: str
) -> None:
    faults.begin(Fault(requests, "notFound", 5, NO_JOB))
    run = runner(bigquery_client, uuid4(), HASTY)
    assert len(list(rows_of(run.run(COUNT, ignore)))) == 1
    assert faults.count(INSERT) == 2  # a dry run, and the job: once


def test_a_job_that_was_inserted_is_adopted_though_it_is_not_to_be_seen_yet(
    bigquery_client: bigquery.Client, faults: Faults
) -> None:
    first, second = runner(bigquery_client, build_id := uuid4(), HASTY), runner(bigquery_client, build_id, HASTY)
    list(first.run(COUNT, ignore))
    faults.begin(Fault(GET_JOB, "notFound", 5, NO_JOB))
    assert len(list(rows_of(second.run(COUNT, ignore)))) == 1
    assert first.job_ids == second.job_ids


def test_a_job_that_a_warehouse_lost_is_started_again_under_its_id(
    bigquery_client: bigquery.Client, faults: Faults
) -> None:
    """The embedded warehouse keeps its jobs in memory: when it is started again there are none."""
    options = replace(HASTY, pauses=PAUSES._replace(job_seen=0.01))
    faults.begin(Fault(GET_JOB, "notFound", 1, NO_JOB, loses_jobs=True))
    run = runner(bigquery_client, uuid4(), options)
    assert len(list(rows_of(run.run(COUNT, ignore)))) == 1
    assert faults.count(INSERT) == 3
    assert not run.job_ids[0].endswith("-2")


@pytest.mark.parametrize("reason", ["jobRateLimitExceeded", "backendError", "quotaExceeded"])
def test_a_job_that_failed_for_now_is_followed_by_another(
    bigquery_client: bigquery.Client, faults: Faults, reason: str
) -> None:
    faults.begin(Fault(GET_JOB, reason, 3, of_job=True))
    run = runner(bigquery_client, uuid4(), HASTY)
    assert len(list(rows_of(run.run(COUNT, ignore)))) == 1
    assert run.job_ids[0].endswith("-4")


FINAL = [
    (INSERT, "invalidQuery", "x"),
    (INSERT, "accessDenied", "x"),
    (INSERT, "notFound", NO_TABLE),
    (GET_JOB, "accessDenied", "x"),
    (GET_PAGE, "responseTooLarge", "x"),
    (GET_PAGE, "notFound", NO_TABLE),
]


@pytest.mark.parametrize(("requests", "reason", "message"), FINAL)
def test_what_is_final_fails_at_once_and_is_named(
    bigquery_client: bigquery.Client, faults: Faults, requests: str, reason: str, message: str
) -> None:
    fault = faults.begin(Fault(requests, reason, message=message))
    with pytest.raises(PermanentWorkError, match=message) as failed:
        list(runner(bigquery_client, uuid4(), HASTY).run(COUNT, ignore))
    assert failed.value.code == reason
    assert fault.seen == 1


@pytest.mark.parametrize("reason", ["accessDenied", "bytesBilledLimitExceeded", "notFound", "resourcesExceeded"])
def test_a_job_that_failed_for_good_is_not_repeated(
    bigquery_client: bigquery.Client, faults: Faults, reason: str
) -> None:
    faults.begin(Fault(GET_JOB, reason, of_job=True))
    with pytest.raises(PermanentWorkError) as failed:
        list(runner(bigquery_client, uuid4(), HASTY).run(COUNT, ignore))
    assert failed.value.code == reason
    assert faults.count(INSERT) == 2


def test_who_waits_says_for_what_and_gives_up_when_the_time_is_over(
    bigquery_client: bigquery.Client, faults: Faults
) -> None:
    faults.begin(Fault(INSERT, "quotaExceeded"))
    stages = list[str]()
    options = replace(HASTY, deadline_seconds=0.3, pauses=PAUSES._replace(shown_after=0.1))
    run = runner(bigquery_client, uuid4(), options, stages.append)
    with pytest.raises(TransientWorkError, match=r"made up.*waited for 0\.\d s") as failed:
        list(run.run(COUNT, ignore))
    assert failed.value.code == "quotaExceeded"
    assert set(stages) == {"waiting_for_warehouse_quota"}


def waiting(client: bigquery.Client, pauses: Pauses, let: Callable[[], bool] = lambda: True) -> Aggregate:
    """Return an aggregation that shows each wait at once, and ends when it is let."""
    options = replace(HASTY, pauses=pauses._replace(shown_after=0), deadline_seconds=600)

    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        runner = JobRunner(client, build.build_id, {}, options, control, lambda stage: progress(stage, 0, 0))
        list(runner.run(COUNT, lambda read: progress("aggregating", 10, read)))
        assert let()
        return BuiltProbe([ROW], 0, runner.job_ids)

    return aggregate


@pytest.fixture
async def build_id(database: Connection) -> UUID:
    await put_in_catalogue(database, PROBE)
    return await request(database)


async def waits(builder: Builder) -> bool:
    labels = {"stage": "waiting_for_warehouse_quota"}
    return builder.metrics.registry.get_sample_value("glam_builder_waiting", labels) == 1


async def test_people_see_that_a_build_waits_and_it_goes_on_with_its_job(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, faults: Faults, build_id: UUID
) -> None:
    faults.begin(Fault(GET_JOB, "quotaExceeded"))
    told_of_all = threading.Event()  # a step that is over before it is told is left out
    aggregate = waiting(bigquery_client, PAUSES, partial(told_of_all.wait, 20))
    async with running_builder(database_url, aggregate, lease_seconds=3) as builder:
        await until_stage(database, "waiting_for_warehouse_quota")
        assert await waits(builder)
        lease = await database.fetchval("SELECT lease_until FROM builds")
        await eventually(partial(renewed, database, lease), "the lease is renewed")
        inserted = faults.count(INSERT)
        faults.end()
        await until_stage(database, "aggregating")
        told_of_all.set()
        await until_state(database, "succeeded")
    assert (inserted, faults.count(INSERT)) == (2, 0)
    stages = "SELECT array_agg(data ->> 'stage' ORDER BY position) FROM event_log WHERE type = 'build_progressed'"
    told = await database.fetchval(stages)
    assert told[-2:] == ["waiting_for_warehouse_quota", "aggregating"]
    assert await database.fetchval("SELECT attempt FROM builds") == 1


async def renewed(database: Connection, lease: datetime) -> bool:
    return bool(await database.fetchval("SELECT lease_until > $1 FROM builds", lease))


async def test_a_cancelled_build_waits_no_longer(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, faults: Faults, build_id: UUID
) -> None:
    faults.begin(Fault(INSERT, "quotaExceeded"))
    async with running_builder(database_url, waiting(bigquery_client, LONG)) as builder:
        await until_stage(database, "waiting_for_warehouse_quota")
        await database.execute("SELECT cancel_build($1, 'me')", build_id)
        ended = partial(builder.metrics.registry.get_sample_value, "glam_builder_attempts_total")
        await eventually(partial(counted, ended), "the attempt is over")
        assert not await waits(builder)


async def counted(ended: Callable[[dict[str, str]], float | None]) -> bool:
    return ended({"outcome": "cancelled"}) == 1


async def test_a_builder_that_stops_hands_back_what_waits(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, faults: Faults, build_id: UUID
) -> None:
    """At once, and not after the grace period, which is for what can be finished."""
    faults.begin(Fault(INSERT, "quotaExceeded"))
    async with asyncio.timeout(60):
        async with running_builder(database_url, waiting(bigquery_client, LONG), grace_seconds=600):
            await until_stage(database, "waiting_for_warehouse_quota")
    state = await database.fetchrow("SELECT state, max_attempts - attempt AS left FROM builds")
    assert state is not None
    assert tuple(state) == ("queued", 5)


async def test_a_job_that_could_not_be_stopped_is_stopped_later(
    database: Connection, bigquery_client: bigquery.Client, faults: Faults
) -> None:
    """Whoever stops orphaned jobs asks again after a lease: a quota, or a job that is not to be seen, ends nothing."""
    build_id = uuid4()
    job_id = f"build-{build_id.hex}-endless-0123456789ab"
    await asyncio.to_thread(bigquery_client.query, ENDLESS.sql, job_id=job_id, job_retry=None)
    for fault in (Fault(LIST, "quotaExceeded"), Fault(CANCEL, "rateLimitExceeded"), Fault(CANCEL, "notFound")):
        fault.message = NO_JOB
        faults.begin(fault)
        with pytest.raises(WarehouseBusyError):
            await asyncio.to_thread(stop_jobs, bigquery_client, build_id, HASTY)
        faults.end()
    assert await asyncio.to_thread(stop_jobs, bigquery_client, build_id, HASTY) == [job_id]
