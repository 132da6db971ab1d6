"""A cancelled build stops at once, with its warehouse job, and reports nothing; a lost one leaves the job running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, aggregate_probe
from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.builds import Aggregate
from builder.running import Builder
from tests.builder.test_build_jobs_are_adopted import ENDLESS
from tests.support.builders import ROW, put_in_catalogue, request, running_builder, until_stage, until_state
from tests.support.googlesql import COUNTER
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import Connection, eventually
from tests.support.sessions import waiting
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import WorkCancelledError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner
from usage_service.shared.postgres import connect

PATIENT = JobOptions(poll_seconds=600, deadline_seconds=600)
EVERYBODY = AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
SOON = 10.0
EVENTS = "SELECT array_agg(type ORDER BY position) FROM event_log WHERE type <> 'build_progressed'"
CANCELLED = ["build_requested", "build_started", "build_cancelled"]


@pytest.fixture(scope="module")
def bigquery_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("cancelled") / "pings.duckdb", random_pings(1, 300)) as client:
        yield client


@pytest.fixture
async def build_id(database: Connection) -> UUID:
    await put_in_catalogue(database, COUNTER)
    await database.execute("UPDATE catalogue SET metric_type = 'counter'")
    return await request(database, COUNTER)


def runs_for_hours(client: bigquery.Client) -> Aggregate:
    """Return an aggregation whose job does not end, and which would poll it again in ten minutes only."""

    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        runner = JobRunner(client, build.build_id, {}, PATIENT, control)
        list(runner.run(ENDLESS, lambda read: progress("aggregating", 10, read)))
        return BuiltProbe([], 0, [])

    return aggregate


def jobs_of(client: bigquery.Client, build_id: UUID) -> list[str]:
    return [job.state for job in client.list_jobs() if build_id.hex in str(job.job_id)]


async def job_is(client: bigquery.Client, build_id: UUID, state: str) -> bool:
    return await asyncio.to_thread(jobs_of, client, build_id) == [state]


async def cancel(database: Connection, build_id: UUID) -> str:
    return str(await database.fetchval("SELECT cancel_build($1, 'me')", build_id))


def pausing_at(client: bigquery.Client, stage: str) -> Aggregate:
    """Return the real aggregation, which stays at a stage until it is stopped."""

    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        def told(name: str, percent: int, read: int) -> None:
            progress(name, percent, read)
            if name == stage:
                control.wait(60)

        asked = replace(build, run_date=RUN_DATE, latest_version=None)
        return aggregate_probe(client, asked, EVERYBODY, told, control)

    return aggregate


async def attempts(builder: Builder, outcome: str) -> bool:
    return builder.metrics.registry.get_sample_value("glam_builder_attempts_total", {"outcome": outcome}) == 1


async def over_and_told_of_once(database: Connection, builder: Builder) -> None:
    await eventually(partial(attempts, builder, "cancelled"), "the attempt is over", SOON)
    assert await database.fetchval("SELECT state FROM builds") == "cancelled"
    assert await database.fetchval(EVENTS) == CANCELLED
    assert await database.fetchval("SELECT count(*) FROM probe_rows") == 0


@pytest.mark.parametrize("told_by", ["notification", "heartbeat"])
async def test_the_job_is_cancelled_while_its_thread_waits(
    database: Connection,
    database_url: str,
    bigquery_client: bigquery.Client,
    build_id: UUID,
    told_by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = 60.0 if told_by == "notification" else 0.6
    async with running_builder(database_url, runs_for_hours(bigquery_client), lease_seconds=lease) as builder:
        await eventually(partial(job_is, bigquery_client, build_id, "RUNNING"), "the job runs")
        if told_by == "heartbeat":
            monkeypatch.setattr(builder.worker, "cancel", lambda build_id: None)
        assert await cancel(database, build_id) == "running"
        await eventually(partial(job_is, bigquery_client, build_id, "DONE"), "the job is cancelled", SOON)
        await over_and_told_of_once(database, builder)


async def test_a_lost_lease_leaves_the_job_to_the_next_attempt(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, build_id: UUID
) -> None:
    aggregate = runs_for_hours(bigquery_client)
    async with running_builder(database_url, aggregate, lease_seconds=0.6) as builder:
        await eventually(partial(job_is, bigquery_client, build_id, "RUNNING"), "the job runs")
        await database.execute("UPDATE builds SET attempt = attempt + 1, stage = NULL, lease_until = 'infinity'")
        await eventually(partial(attempts, builder, "lost"), "the attempt is over")
        assert await job_is(bigquery_client, build_id, "RUNNING")
    async with running_builder(database_url, aggregate, name="b2") as builder:
        await database.execute("UPDATE builds SET lease_until = now()")
        builder.worker.wake()
        await until_stage(database, "aggregating")
        assert await job_is(bigquery_client, build_id, "RUNNING")  # the same, adopted
        await cancel(database, build_id)
        await eventually(partial(job_is, bigquery_client, build_id, "DONE"), "the job is cancelled", SOON)


async def test_a_builder_that_stops_leaves_the_job_to_the_next(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, build_id: UUID
) -> None:
    aggregate = runs_for_hours(bigquery_client)
    async with running_builder(database_url, aggregate, grace_seconds=0.01):
        await eventually(partial(job_is, bigquery_client, build_id, "RUNNING"), "the job runs")
    assert await database.fetchval("SELECT state FROM builds") == "queued"
    assert await job_is(bigquery_client, build_id, "RUNNING")
    async with running_builder(database_url, aggregate):
        await until_stage(database, "aggregating")
        assert await database.fetchval("SELECT max_attempts - attempt FROM builds") == 4  # as after the first
        await cancel(database, build_id)
        await eventually(partial(job_is, bigquery_client, build_id, "DONE"), "the job is cancelled", SOON)


@pytest.mark.parametrize("stage", ["finding_version", "aggregating", "statistics"])
async def test_cancelled_at_any_stage_it_stops_there(
    database: Connection, database_url: str, bigquery_client: bigquery.Client, build_id: UUID, stage: str
) -> None:
    async with running_builder(database_url, pausing_at(bigquery_client, stage)) as builder:
        await until_stage(database, stage)
        await cancel(database, build_id)
        await over_and_told_of_once(database, builder)
    assert set(jobs_of(bigquery_client, build_id)) <= {"DONE"}


async def test_cancelled_while_it_waits_it_is_never_started(
    database: Connection, database_url: str, build_id: UUID
) -> None:
    assert await cancel(database, build_id) == "queued"
    async with running_builder(database_url) as builder:
        await request(database, COUNTER)  # another build
        await until_state(database, "cancelled", "succeeded")
        await eventually(partial(attempts, builder, "succeeded"), "the attempt is counted")
    assert await database.fetchval("SELECT attempt FROM builds WHERE build_id = $1", build_id) == 0
    assert await cancel(database, build_id) == "cancelled"


@pytest.mark.parametrize("first", ["cancelled", "completed"])
async def test_cancelled_while_it_is_stored_one_of_both_happens(
    database: Connection, database_url: str, build_id: UUID, first: str
) -> None:
    """The transaction that locks the build's row wins; the other one gets an error."""
    holder = await connect(database_url, application="holder")
    try:
        transaction = holder.transaction()
        await transaction.start()
        lock = "SELECT FROM builds FOR NO KEY UPDATE" if first == "cancelled" else "SELECT lock_event_log()"
        aggregate = pausing_until(holding := threading.Event())
        async with running_builder(database_url, aggregate) as builder:
            await until_state(database, "running")
            await holder.execute(lock)
            holding.set()
            await eventually(partial(stores, database), "it is being stored")
            if first == "cancelled":
                await cancel(holder, build_id)
                await transaction.commit()
                await over_and_told_of_once(database, builder)
            else:
                cancelling = asyncio.create_task(cancel(database, build_id))
                await transaction.commit()
                assert await cancelling == "succeeded"
                await eventually(partial(attempts, builder, "succeeded"), "the attempt is over")
    finally:
        await holder.close()


def pausing_until(go_on: threading.Event) -> Aggregate:
    """Return an aggregation that ends when it is let, without reports that could wait for the build's row as well."""

    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        assert go_on.wait(20)
        return BuiltProbe([ROW], 0, [])

    return aggregate


async def stores(database: Connection) -> bool:
    return await waiting(database, statement="%complete_build%") > 0


async def test_a_thread_that_waits_for_an_answer_does_not_delay_the_cancellation() -> None:
    """The caller cancels the job while its thread waits; the thread cancels it again when its request is through."""
    control, waits, answered, calls = Control(), threading.Event(), threading.Event(), list[str]()

    def wait_for_an_answer() -> None:
        with control.cancelling(lambda: calls.append(threading.current_thread().name)):
            waits.set()
            assert answered.wait(20)
            control.check()

    waiting = asyncio.create_task(asyncio.to_thread(wait_for_an_answer))
    assert await asyncio.to_thread(waits.wait, 20)
    control.cancel()
    assert calls == ["MainThread"]
    answered.set()
    with pytest.raises(WorkCancelledError):
        await waiting
    assert len(calls) == 2
