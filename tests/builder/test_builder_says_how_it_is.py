"""A builder's metrics count its builds; without notifications it logs an error and goes on by polling."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from structlog.testing import capture_logs

from builder import listener_check
from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.metrics import BuilderMetrics, served
from builder.running import Builder
from tests.support.builders import builds_a_row, endless, put_in_catalogue, request, running_builder, until_state
from tests.support.servers import Connection, eventually
from usage_service.local.ports import free_port
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.settings import SettingsError


@pytest.fixture(autouse=True)
async def catalogue(database: Connection) -> None:
    await put_in_catalogue(database, "gc_ms", "slow_ms")


def sample(builder: Builder, name: str, **labels: str) -> float | None:
    return builder.metrics.registry.get_sample_value(f"glam_builder_{name}", labels)


async def reads(builder: Builder, name: str, value: float, labels: Mapping[str, str]) -> bool:
    return sample(builder, name, **labels) == value


async def until_sample(builder: Builder, name: str, value: float, **labels: str) -> None:
    await eventually(partial(reads, builder, name, value, labels), f"{name} is {value}")


async def test_what_is_done_is_counted(database: Connection, database_url: str) -> None:
    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        if build.probe == "slow_ms":
            raise PermanentWorkError("invalidQuery", "no such column")
        return builds_a_row(build, progress, control)

    async with running_builder(database_url, aggregate) as builder:
        await request(database, "gc_ms")
        await request(database, "slow_ms")
        await until_state(database, "succeeded", "failed")
        await until_sample(builder, "attempts_total", 1, outcome="succeeded")
        await until_sample(builder, "attempts_total", 1, outcome="failed")
        assert sample(builder, "attempts_total", outcome="lost") == 0
        assert sample(builder, "pickup_seconds_count", prefetched="false") == 2
        assert sample(builder, "attempt_seconds_count", outcome="succeeded") == 1
        assert sample(builder, "read_bytes_total") == 2_000
        assert sample(builder, "notifications_lost_total") == 0
        assert sample(builder, "running") == 0
        await until_sample(builder, "listener_check_passed", 1)


async def test_losses_are_counted(database: Connection, database_url: str) -> None:
    async with running_builder(database_url, endless, lease_seconds=0.6) as builder:
        await request(database)
        await until_sample(builder, "running", 1)
        await database.execute("UPDATE builds SET attempt = attempt + 1, worker = 'gone', lease_until = now()")
        builder.worker.check()
        await until_sample(builder, "attempts_total", 1, outcome="lost")
        await until_sample(builder, "leases_expired_total", 1)
        assert sample(builder, "leases_lost_total") == 1
        await until_state(database, "running")  # claimed again: what is queued yet is cancelled without an attempt
        build_id = await database.fetchval("SELECT build_id FROM builds")
        await database.execute("SELECT cancel_build($1)", build_id)
        await until_sample(builder, "attempts_total", 1, outcome="cancelled")


async def test_a_builder_that_gets_no_notifications_says_so_and_polls(
    database: Connection, database_url: str, own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens to another database: as behind a transaction pooler, it connects and no notification arrives."""
    monkeypatch.setattr(listener_check, "ARRIVE_SECONDS", 0.2)
    with capture_logs() as logs:
        async with running_builder(database_url, listen_database_url=own_database_url, poll_seconds=1.5) as builder:
            await eventually(partial(logged, logs, "notifications_do_not_arrive"), "it says so")
            async with database.transaction():
                await request(database)
                await database.execute(
                    "UPDATE builds SET not_before = now() - interval '2 s'"
                )  # as if nobody had looked
            await until_state(database, "succeeded")
            assert sample(builder, "listener_check_passed") == 0
            assert sample(builder, "notifications_lost_total") == 1
    [told] = [entry for entry in logs if entry["event"] == "notifications_do_not_arrive"]
    assert told["log_level"] == "error"
    assert "LISTEN_DATABASE_URL" in told["hint"]


async def logged(logs: Sequence[Mapping[str, object]], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


async def test_metrics_are_served_where_they_are_wanted() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(SettingsError, match="PROBE_BUILDER_METRICS_PORT"),
        served(BuilderMetrics(), "127.0.0.1", port),
    ):
        pass
    url = f"http://127.0.0.1:{port}/metrics"
    with served(BuilderMetrics(), "127.0.0.1", port):
        text = await asyncio.to_thread(fetched, url)
        assert "glam_builder_pickup_seconds" in text
    with served(BuilderMetrics(), "127.0.0.1", 0), pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(fetched, url)


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


async def test_a_builder_shows_life_whether_it_builds_or_not(database: Connection, database_url: str) -> None:
    async def is_seen() -> bool:
        return bool(await database.fetchval("SELECT count(*) = 1 FROM builders WHERE name = 'b1'"))

    async with running_builder(database_url) as builder:
        await eventually(is_seen, "its sign of life")
        assert builder.metrics.registry.get_sample_value("glam_listener_up") == 1
        assert sample(builder, "last_success_timestamp_seconds") == 0
        await request(database)
        await until_state(database, "succeeded")
        await until_sample(builder, "attempts_total", 1, outcome="succeeded")
        assert sample(builder, "last_success_timestamp_seconds") == pytest.approx(time.time(), abs=60)
