"""A builder is woken at once, says how far it is, and ends every build: with rows, without, or with the reason."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import pytest

from builder.errors import BuildCancelledError, PermanentBuildError, TransientBuildError
from builder.probe import BuildRequest, BuiltProbe, ProbeRow, Progress
from builder.queue import BuildQueue
from builder.settings import BuilderSettings
from builder.worker import Compute, Worker
from tests.support import Client, Connection, drained_projections, event, eventually, post, registered
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import open_pool
from usage_service.shared.tasks import Tasks

ROW = ProbeRow(
    version=140, ping_type="*", os="*", app_build_id="*", metric_type="timing_distribution", metric_key="",
    client_agg_type="summed_histogram", total_users=900, total_sample=1800, histogram='{"0": 0.5, "10": 0.5}',
    percentiles='{"50": 0}', non_norm_histogram="{}", non_norm_percentiles="{}", build_date=None,
)  # fmt: skip


class Builder(Protocol):
    """Runs a builder that computes with the function given."""

    def __call__(
        self, compute: Compute, *, name: str = ..., lease: float = ..., poll: float = ...
    ) -> AbstractAsyncContextManager[Worker]: ...


def builds_rows(request: BuildRequest, progress: Progress) -> BuiltProbe:
    progress("aggregating", 50, 1_000)
    return BuiltProbe([ROW], 2_000, ["a job"])


@pytest.fixture
async def catalogue(client: Client, database: Connection) -> None:
    await post(client, registered("gc_ms"), registered("slow_ms"))
    await drained_projections(database)


@pytest.fixture
def builder(database_url: str, catalogue: None) -> Builder:
    """Runs a builder that computes with the function given."""

    @asynccontextmanager
    async def run(compute: Compute, *, name: str = "b1", lease: float = 15, poll: float = 60) -> AsyncIterator[Worker]:
        settings = BuilderSettings(
            database_url=database_url, lease_seconds=lease, poll_seconds=poll, retry_seconds=0.01, grace_seconds=5
        )
        async with open_pool(database_url, role="usage_builder", application=name, size=4) as pool:
            queue = BuildQueue(pool, name, timedelta(seconds=settings.lease_seconds))
            worker = Worker(queue, compute, settings)
            listener = Listener(database_url, ["build_requested"], lambda _channel, _payload: worker.wake())
            async with Tasks(lambda: None) as tasks:
                tasks.start("listener", listener.run())
                tasks.start("worker", worker.run())
                await eventually(lambda: connected(listener), "the listener is connected")
                yield worker
            await worker.stop()

    return run


async def connected(listener: Listener) -> bool:
    return listener.connected


async def ask(client: Client, probe: str = "gc_ms") -> str:
    response = await client.post("/v1/builds", json={"product": "fog", "channel": "nightly", "probe": probe})
    assert response.status == 202, await response.text()
    assert int(response.headers["Retry-After"]) >= 1
    return response.headers["Location"]


async def until_state(database: Connection, *states: str) -> None:
    async def reached() -> bool:
        return await database.fetchval("SELECT state FROM builds") in states

    await eventually(reached, f"the build is {' or '.join(states)}")


async def test_from_request_to_rows(client: Client, builder: Builder, database: Connection) -> None:
    async with builder(builds_rows):
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
    types = [row["type"] for row in await database.fetch("SELECT type FROM event_log ORDER BY position")][2:]
    # A build may be over before its last step was reported.
    assert [kind for kind in types if kind != "build_progressed"] == [
        "build_requested", "build_started", "build_succeeded",
    ]  # fmt: skip


async def test_a_waiting_build_is_claimed_at_once(client: Client, builder: Builder, database: Connection) -> None:
    async with builder(builds_rows):  # which polls once a minute only
        await ask(client)
        await until_state(database, "succeeded")
    waited = await database.fetchval("SELECT started_at - requested_at FROM builds")
    assert waited < timedelta(seconds=10)


async def test_a_build_asked_for_while_no_builder_ran_is_found(
    client: Client, builder: Builder, database: Connection
) -> None:
    await ask(client)
    async with builder(builds_rows):
        await until_state(database, "succeeded")


async def test_no_rows_is_a_result_of_its_own(client: Client, builder: Builder, database: Connection) -> None:
    async with builder(lambda request, progress: BuiltProbe([], 10, [])):
        location = await ask(client)
        await until_state(database, "no_data")
    answer = await (await client.get(location)).json()
    assert (answer["state"], answer["rows"]) == ("no_data", [])


async def test_what_will_not_pass_fails_with_its_reason(client: Client, builder: Builder, database: Connection) -> None:
    def refused(request: BuildRequest, progress: Progress) -> BuiltProbe:
        raise PermanentBuildError("invalidQuery", "no such column")

    async with builder(refused):
        location = await ask(client)
        await until_state(database, "failed")
    answer = await (await client.get(location)).json()
    assert answer["error"] == {"code": "invalidQuery", "message": "no such column"}
    assert answer["attempt"] == 1


@pytest.mark.parametrize("error", [TransientBuildError("backendError", "busy"), RuntimeError("a bug")])
async def test_what_may_pass_is_tried_again(
    client: Client, builder: Builder, database: Connection, error: Exception
) -> None:
    attempts: list[UUID] = []

    def flaky(request: BuildRequest, progress: Progress) -> BuiltProbe:
        attempts.append(request.build_id)
        if len(attempts) < 3:
            raise error
        return builds_rows(request, progress)

    async with builder(flaky, poll=0.05):
        await ask(client)
        await until_state(database, "succeeded")
    assert len(set(attempts)) == 1
    assert await database.fetchval("SELECT attempt FROM builds") == 3


async def test_a_slow_build_keeps_its_lease(client: Client, builder: Builder, database: Connection) -> None:
    finish = threading.Event()

    def slow(request: BuildRequest, progress: Progress) -> BuiltProbe:
        assert finish.wait(20)
        return builds_rows(request, progress)

    async with builder(slow, lease=0.6, poll=0.05):
        await ask(client)
        await until_state(database, "running")
        claimed_until = await database.fetchval("SELECT lease_until FROM builds")

        async def renewed_thrice() -> bool:
            lease = await database.fetchval("SELECT lease_until FROM builds")
            return bool(lease > claimed_until + timedelta(seconds=0.6))

        await eventually(renewed_thrice, "the lease is renewed past its first length")
        finish.set()
        await until_state(database, "succeeded")
    assert await database.fetchval("SELECT attempt FROM builds") == 1


async def test_a_lost_lease_stops_the_computation(client: Client, builder: Builder, database: Connection) -> None:
    stopped = threading.Event()

    def endless(request: BuildRequest, progress: Progress) -> BuiltProbe:
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                progress("aggregating", 10, 0)
                stopped.wait(0.01)
        except BuildCancelledError:
            stopped.set()
            raise
        return builds_rows(request, progress)

    async with builder(endless, lease=1.0):
        await ask(client)
        await until_state(database, "running")
        # Another worker took it over, and has finished meanwhile.
        await database.execute("UPDATE builds SET attempt = attempt + 1, worker = 'other'")
        assert await asyncio.to_thread(stopped.wait, 20)
    assert await database.fetchval("SELECT state FROM builds") == "running"
    assert await database.fetchval("SELECT worker FROM builds") == "other"
    assert await database.fetchval("SELECT count(*) FROM probe_rows") == 0


async def test_stopping_finishes_what_is_under_way(client: Client, builder: Builder, database: Connection) -> None:
    started, finish = threading.Event(), threading.Event()

    def slow(request: BuildRequest, progress: Progress) -> BuiltProbe:
        started.set()
        assert finish.wait(20)
        return builds_rows(request, progress)

    async with builder(slow) as worker:
        await ask(client)
        assert await asyncio.to_thread(started.wait, 20)
        stopping = asyncio.create_task(worker.stop())
        finish.set()
        await stopping
    assert await database.fetchval("SELECT state FROM builds") == "succeeded"


async def test_the_released_version_reaches_the_computation(
    client: Client, builder: Builder, database: Connection
) -> None:
    seen: list[BuildRequest] = []

    def remember(request: BuildRequest, progress: Progress) -> BuiltProbe:
        seen.append(request)
        return builds_rows(request, progress)

    for version in (141, 143, 142):
        await post(client, event("release_published", channel="nightly", visitor=None, data={"version": version}))
    await drained_projections(database)
    async with builder(remember):
        await ask(client)
        await until_state(database, "succeeded")
    [request] = seen
    assert (request.latest_version, request.pings, request.run_date) == (143, ("metrics",), datetime.now(UTC).date())


async def test_two_builders_share_the_work(client: Client, builder: Builder, database: Connection) -> None:
    async with builder(builds_rows, name="b1"), builder(builds_rows, name="b2"):
        await ask(client, "gc_ms")
        await ask(client, "slow_ms")

        async def both() -> bool:
            return bool(await database.fetchval("SELECT count(*) = 2 FROM builds WHERE state = 'succeeded'"))

        await eventually(both, "both builds are done")
    assert await database.fetchval("SELECT max(attempt) FROM builds") == 1
