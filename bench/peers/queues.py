"""Peers of the build queue on PostgreSQL: `pgqueuer` from enqueued to started, `procrastinate` in jobs a second."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONValue

from bench.stack import ROOT, BenchError
from usage_service.local.owned_process import owned_command

JOB_SECONDS = 10
WORKER_SECONDS = 300


async def pickup_seconds(url: str, samples: int) -> list[float]:
    """Return the seconds from each enqueue() to the first line of its job, one after the other, in one process."""
    working, asking = await asyncpg.connect(url), await asyncpg.connect(url)
    queue, took = PgQueuer(AsyncpgDriver(working)), list[float]()
    queries = Queries(AsyncpgDriver(asking))
    await queries.install()
    started: asyncio.Queue[float] = asyncio.Queue()

    @queue.entrypoint("build")
    async def build(_job: Job) -> None:
        started.put_nowait(time.monotonic())

    running = asyncio.create_task(queue.run(dequeue_timeout=timedelta(seconds=5), batch_size=1))
    try:
        for _ in range(samples + 5):
            asked = time.monotonic()
            await queries.enqueue("build", None)
            async with asyncio.timeout(JOB_SECONDS):
                took.append(await started.get() - asked)
    finally:
        queue.shutdown.set()
        await asyncio.wait({running}, timeout=JOB_SECONDS)
        await working.close()
        await asking.close()
    return took[5:]  # without the first ones, while it starts


def make_app(url: str) -> tuple[App, Callable[..., object]]:
    """Make an app of procrastinate with one job, which does nothing."""
    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="build")
    async def build(probe: str) -> None:
        del probe

    return app, build


def jobs_a_second(url: str, jobs: int, workers: int, concurrency: int) -> float:
    """Return the jobs a second of `workers` processes that find so many queued, from first start to last end."""
    asyncio.run(_defer(url, jobs))
    command = owned_command([sys.executable, "-m", "bench.peers.queues", url, str(concurrency)])
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(workers)]
    for process in running:
        if process.wait(WORKER_SECONDS):
            raise BenchError("a worker of procrastinate failed")
    return asyncio.run(_rate(url, jobs))


async def _defer(url: str, jobs: int) -> None:
    app, _build = make_app(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        arguments: list[dict[str, JSONValue]] = [{"probe": f"probe_{index}"} for index in range(jobs)]
        await app.tasks["build"].batch_defer_async(*arguments)


async def _rate(url: str, jobs: int) -> float:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("""
            SELECT count(*) FILTER (WHERE type = 'succeeded') AS done, extract(epoch FROM max(at) - min(at)) AS seconds
            FROM procrastinate_events WHERE type IN ('started', 'succeeded')
        """)
    finally:
        await connection.close()
    if row is None or row["done"] != jobs:
        raise BenchError(f"procrastinate did {row and row['done']} of {jobs} jobs")
    return jobs / float(row["seconds"])


async def _work(url: str, concurrency: int) -> None:
    app, _build = make_app(url)
    async with app.open_async():
        await app.run_worker_async(concurrency=concurrency, wait=False, install_signal_handlers=False)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], int(sys.argv[2])))
