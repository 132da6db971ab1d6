"""A builder is woken at once, reports its steps, and ends every build: with rows, without, or with the reason."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import pytest

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.builds import Aggregate
from builder.queue import BuildQueue, Claim
from builder.running import Builder
from tests.support.builders import (
    builds_a_row,
    endless,
    put_in_catalogue,
    request,
    running_builder,
    until_stage,
    until_state,
)
from tests.support.servers import Client, Connection, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WorkAbandonedError


class Start(Protocol):
    """Run a builder that aggregates with the function given."""

    def __call__(self, aggregate: Aggregate, **values: object) -> AbstractAsyncContextManager[Builder]: ...


@pytest.fixture
async def builder(database: Connection, database_url: str) -> Start:
    """Return a function that starts a builder, beside a catalogue of two probes."""
    await put_in_catalogue(database, "gc_ms", "slow_ms")
    return partial(running_builder, database_url)


async def ask(client: Client, probe: str = "gc_ms") -> str:
    """Ask for a build, which may be over already, and return its address."""
    asked = {"product": "fog", "channel": "nightly", "probe": probe}
    response = await client.post("/v1/builds", json=asked, allow_redirects=False)
    assert response.status in (202, 303), await response.text()
    assert response.status == 303 or int(response.headers["Retry-After"]) >= 1
    return f"/v1/builds/{(await response.json())['build_id']}"


async def test_from_request_to_rows(client: Client, builder: Start, database: Connection) -> None:
    async with builder(builds_a_row):
        location = await ask(client)
        await until_state(database, "succeeded")
    response = await client.get(location)  # follows the redirect
    assert [past.status for past in response.history] == [303]
    answer = await response.json()
    assert answer["state"] == "succeeded"
    [row] = answer["rows"]
    assert (row["version"], row["build_id"], row["total_users"], row["probe"]) == (140, "*", 900, "gc_ms")
    assert await response.text() != ""
    assert '"histogram":{"0": 0.5, "10": 0.5}' in await response.text()
    again = await client.post(
        "/v1/builds", json={"product": "fog", "channel": "nightly", "probe": "gc_ms"}, allow_redirects=False
    )
    assert again.status == 303
    types = [row["type"] for row in await database.fetch("SELECT type FROM event_log ORDER BY position")]
    # A build may be over before its last step was reported.
    assert [kind for kind in types if kind != "build_progressed"] == [
        "build_requested", "build_started", "build_succeeded",
    ]  # fmt: skip


async def test_a_waiting_build_is_claimed_at_once(builder: Start, database: Connection) -> None:
    async with builder(builds_a_row):  # which polls once a minute only
        await request(database)
        await until_state(database, "succeeded")
    waited = await database.fetchval("SELECT started_at - requested_at FROM builds")
    assert waited < timedelta(seconds=10)


async def test_a_build_asked_for_while_no_builder_ran_is_found(builder: Start, database: Connection) -> None:
    await request(database)
    async with builder(builds_a_row):
        await until_state(database, "succeeded")


async def test_no_rows_is_a_result_of_its_own(builder: Start, database: Connection) -> None:
    async with builder(lambda *_: BuiltProbe([], 10, [])):
        await request(database)
        await until_state(database, "no_data")
    assert await database.fetchval("SELECT rows FROM builds") is None


async def test_what_will_not_pass_fails_with_its_reason(builder: Start, database: Connection) -> None:
    def refused(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        raise PermanentWorkError("invalidQuery", "no such column")

    async with builder(refused):
        await request(database)
        await until_state(database, "failed")
    row = await database.fetchrow("SELECT error, attempt FROM builds")
    assert row is not None
    assert (row["error"], row["attempt"]) == ({"code": "invalidQuery", "message": "no such column"}, 1)


@pytest.mark.parametrize("error", [TransientWorkError("backendError", "busy"), RuntimeError("a bug")])
async def test_what_may_pass_is_tried_again(builder: Start, database: Connection, error: Exception) -> None:
    attempts: list[UUID] = []

    def flaky(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        attempts.append(request.build_id)
        if len(attempts) < 3:
            raise error
        return builds_a_row(request, progress, control)

    async with builder(flaky, poll_seconds=0.05):
        await request(database)
        await until_state(database, "succeeded")
    assert len(set(attempts)) == 1
    assert await database.fetchval("SELECT attempt FROM builds") == 3


async def test_a_slow_build_keeps_its_lease(builder: Start, database: Connection) -> None:
    finish = threading.Event()

    def slow(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        assert finish.wait(20)
        return builds_a_row(request, progress, control)

    async with builder(slow, lease_seconds=2, poll_seconds=0.05):
        await request(database)
        await until_state(database, "running")
        claimed_until = await database.fetchval("SELECT lease_until FROM builds")

        async def renewed_thrice() -> bool:
            lease = await database.fetchval("SELECT lease_until FROM builds")
            return bool(lease > claimed_until + timedelta(seconds=2))

        await eventually(renewed_thrice, "the lease is renewed past its first length")
        finish.set()
        await until_state(database, "succeeded")
    assert await database.fetchval("SELECT attempt FROM builds") == 1


async def test_a_step_whose_report_failed_is_reported_again(
    builder: Start, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = list[str]()
    heartbeat = BuildQueue.heartbeat

    async def fails_once(
        queue: BuildQueue, claim: Claim, stage: str | None = None, percent: int | None = None, read: int | None = None
    ) -> None:
        if stage:
            reported.append(stage)
            if len(reported) == 1:
                raise ConnectionError("the database is away")
        await heartbeat(queue, claim, stage, percent, read)

    monkeypatch.setattr(BuildQueue, "heartbeat", fails_once)
    async with builder(endless) as running:
        build_id = await request(database)
        await until_stage(database, "aggregating")
        assert await database.fetchval("SELECT bytes FROM builds") == 1_000
        assert reported == ["aggregating"] * 2
        running.worker.cancel(str(build_id))


async def test_a_lost_lease_stops_the_computation_thread(builder: Start, database: Connection) -> None:
    started, stopped = threading.Event(), threading.Event()

    def runs_on(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        started.set()
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                progress("aggregating", 10, 0)
                stopped.wait(0.01)
        except WorkAbandonedError:
            stopped.set()
            raise
        return builds_a_row(request, progress, control)

    async with builder(runs_on, lease_seconds=1.0):
        await request(database)
        assert await asyncio.to_thread(started.wait, 20)  # a claim that is lost before has no thread to be stopped
        # Another worker took it over, and has finished meanwhile.
        await database.execute("UPDATE builds SET attempt = attempt + 1, worker = 'other', lease_until = 'infinity'")
        assert await asyncio.to_thread(stopped.wait, 20)
    assert await database.fetchval("SELECT state FROM builds") == "running"
    assert await database.fetchval("SELECT worker FROM builds") == "other"
    assert await database.fetchval("SELECT count(*) FROM probe_rows") == 0


async def test_stopping_finishes_what_is_under_way(builder: Start, database: Connection) -> None:
    started, finish = threading.Event(), threading.Event()

    def slow(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        started.set()
        assert finish.wait(20)
        return builds_a_row(request, progress, control)

    async with builder(slow) as running:
        await request(database)
        assert await asyncio.to_thread(started.wait, 20)
        stopping = asyncio.create_task(running.worker.stop())
        finish.set()
        await stopping
    assert await database.fetchval("SELECT state FROM builds") == "succeeded"


async def test_the_released_version_reaches_the_request(builder: Start, database: Connection) -> None:
    seen: list[BuildRequest] = []

    def remember(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        seen.append(request)
        return builds_a_row(request, progress, control)

    await database.execute(
        "INSERT INTO releases SELECT 'fog', 'nightly', v, now() FROM unnest('{141,143,142}'::int[]) v"
    )
    async with builder(remember):
        await request(database)
        await until_state(database, "succeeded")
    [asked] = seen
    assert (asked.latest_version, asked.pings, asked.run_date) == (143, ("metrics",), datetime.now(UTC).date())


async def test_two_builders_share_the_work(builder: Start, database: Connection) -> None:
    async with builder(builds_a_row, name="b1"), builder(builds_a_row, name="b2"):
        await request(database, "gc_ms")
        await request(database, "slow_ms")

        async def both() -> bool:
            return bool(await database.fetchval("SELECT count(*) = 2 FROM builds WHERE state = 'succeeded'"))

        await eventually(both, "both builds are done")
    assert await database.fetchval("SELECT max(attempt) FROM builds") == 1


async def test_as_many_run_at_a_time_as_it_is_told(builder: Start, database: Connection) -> None:
    """The number of processors sets no limit, and there are connections for all to report at the same time."""
    number = 16
    together = threading.Barrier(number)

    def meet(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        together.wait(20)
        return builds_a_row(build, progress, control)

    probes = [f"p{index}" for index in range(number)]
    await put_in_catalogue(database, *probes)
    async with builder(meet, concurrency=number):
        for probe in probes:
            await request(database, probe)
        await until_state(database, "succeeded")
    assert await database.fetchval("SELECT max(attempt) FROM builds") == 1


@pytest.mark.parametrize("how", ["deaf", "stop_iteration"])
async def test_a_computation_thread_that_never_returns_hangs_nothing(
    builder: Start, database: Connection, how: str
) -> None:
    release, calls = threading.Event(), list[UUID]()

    def hangs_once(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        calls.append(build.build_id)
        if len(calls) > 1:
            return builds_a_row(build, progress, control)
        if how == "stop_iteration":
            raise StopIteration
        assert release.wait(20)  # the control has no effect here
        return BuiltProbe([], 0, [])

    async with builder(hangs_once, build_seconds=0.5):
        await request(database)
        await until_state(database, "succeeded")
        release.set()
    told = await database.fetchval("SELECT data ->> 'code' FROM event_log WHERE type = 'build_failed'")
    assert told == ("timeout" if how == "deaf" else "internal")


async def test_what_is_tried_again_is_claimed_when_its_time_has_come(builder: Start, database: Connection) -> None:
    """The claim comes long before the next poll, which is in a minute."""
    attempts: list[float] = []

    def fails_once(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            raise TransientWorkError("backendError", "busy")
        return builds_a_row(build, progress, control)

    async with builder(fails_once, retry_seconds=0.4):
        await request(database)
        await until_state(database, "succeeded")
    assert 0.2 <= attempts[1] - attempts[0] < 10
