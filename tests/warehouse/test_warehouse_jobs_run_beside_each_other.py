"""Jobs run asynchronously, are waited for without a busy loop, can be cancelled, and are forgotten in the end."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.bigquery import Client

from tests.support.warehouse_support import ENDLESS, NEVER, SECONDS, client_of, rows, seeded, start
from warehouse.api.app import create_app
from warehouse.api.jobs import Limits

PROJECT = "/bigquery/v2/projects/p"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory)


@pytest.fixture
def client(database: Path) -> Iterator[Client]:
    with client_of(database) as client:
        yield client


@pytest.fixture
async def http(database: Path) -> AsyncIterator[TestClient[Any, Any]]:
    limits = Limits(parallel=1, queued=1, kept=2, kept_seconds=3600, shutdown_seconds=5)
    async with TestClient(TestServer(create_app(database, limits=limits))) as client:
        yield client


async def insert(http: TestClient[Any, Any], sql: str, job_id: str) -> int:
    body = {"jobReference": {"jobId": job_id}, "configuration": {"query": {"query": sql}}}
    return (await http.post(f"{PROJECT}/jobs", json=body)).status


async def results(http: TestClient[Any, Any], job_id: str, timeout_ms: int) -> dict[str, Any]:
    answer = await http.get(f"{PROJECT}/queries/{job_id}", params={"timeoutMs": str(timeout_ms)})
    found: dict[str, Any] = await answer.json()
    return found


def wait_until_running(client: Client, job_id: str) -> None:
    deadline = time.monotonic() + SECONDS
    while client.get_job(job_id, location="US", retry=NEVER, timeout=SECONDS).state != "RUNNING":
        assert time.monotonic() < deadline


def test_a_dialect_is_whole_before_the_first_statements_come_at_once() -> None:
    """The second of two to load one would find it half made, and refuse what is right."""
    program = "import sys, warehouse.engine; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=SECONDS).stdout
    assert {b"sqlglot.dialects.bigquery", b"sqlglot.dialects.duckdb"} <= set(loaded.split())


def test_a_running_query_is_cancelled(client: Client) -> None:
    job = start(client, ENDLESS, job_id="endless")
    wait_until_running(client, "endless")
    assert job.cancel(retry=NEVER, timeout=SECONDS)
    with pytest.raises(GoogleAPICallError, match=r"Job execution was cancelled: User requested cancellation"):
        job.result(retry=NEVER, timeout=SECONDS, job_retry=None)
    again = client.get_job("endless", location="US", retry=NEVER, timeout=SECONDS)
    assert again.state == "DONE"
    assert again.error_result["reason"] == "stopped"


def test_a_short_query_passes_a_long_one(client: Client) -> None:
    long = start(client, ENDLESS, job_id="long")
    wait_until_running(client, "long")
    assert rows(client, "SELECT 1") == [(1,)]
    assert not long.done(retry=NEVER, timeout=SECONDS)
    long.cancel(retry=NEVER, timeout=SECONDS)


def test_stopping_the_server_stops_what_runs(database: Path) -> None:
    with client_of(database) as client:
        start(client, ENDLESS, job_id="left-behind")
        wait_until_running(client, "left-behind")


async def test_waiting_is_one_request_not_a_loop(http: TestClient[Any, Any]) -> None:
    await insert(http, ENDLESS, "slow")
    began = time.monotonic()
    waiting = await results(http, "slow", 400)
    assert waiting["jobComplete"] is False
    assert time.monotonic() - began >= 0.4
    waiter = asyncio.create_task(results(http, "slow", 60_000))
    await http.post(f"{PROJECT}/jobs/slow/cancel")
    answer = await asyncio.wait_for(waiter, SECONDS)
    assert answer["error"]["errors"][0]["reason"] == "stopped"


async def test_a_waiting_job_can_be_cancelled_before_it_runs(http: TestClient[Any, Any]) -> None:
    await insert(http, ENDLESS, "first")
    await insert(http, "SELECT 1", "second")
    await http.post(f"{PROJECT}/jobs/second/cancel")
    await http.post(f"{PROJECT}/jobs/first/cancel")
    assert (await results(http, "second", 20_000))["error"]["errors"][0]["reason"] == "stopped"


async def test_the_queue_has_an_end(http: TestClient[Any, Any]) -> None:
    assert [await insert(http, ENDLESS, "a"), await insert(http, "SELECT 1", "b")] == [200, 200]
    assert await insert(http, "SELECT 1", "c") == 403
    for job in "ab":
        await http.post(f"{PROJECT}/jobs/{job}/cancel")
        await results(http, job, 20_000)
    assert await insert(http, "SELECT 1", "c") == 200


async def test_only_the_newest_results_are_kept(http: TestClient[Any, Any]) -> None:
    for number in range(4):
        await insert(http, f"SELECT {number} AS n", f"job{number}")
        await results(http, f"job{number}", 20_000)
    assert (await http.get(f"{PROJECT}/jobs/job0")).status == 404
    kept = await results(http, "job3", 0)
    assert kept["rows"] == [{"f": [{"v": "3"}]}]


async def test_parallel_jobs_do_not_mix_their_rows(database: Path) -> None:
    async with TestClient(TestServer(create_app(database, limits=Limits(parallel=4)))) as http:
        await asyncio.gather(*(insert(http, f"SELECT {n} AS n", f"p{n}") for n in range(20)))
        answers = await asyncio.gather(*(results(http, f"p{n}", 20_000) for n in range(20)))
    assert [answer["rows"][0]["f"][0]["v"] for answer in answers] == [str(n) for n in range(20)]
