"""Measurements of the mirror of the log: events a second, their bytes, and the lag under load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb

from bench.numbers import Row
from bench.rebuilding import rebuild
from bench.stack import ROOT, Stack, fill_traffic, psql
from usage_service.local.owned_process import owned_command
from usage_service.local.ports import free_port
from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.mirroring import MirrorLimits, opened_mirror
from usage_service.mirror.running import keep_mirror
from usage_service.mirror.state import mirror_states
from usage_service.shared.postgres import open_pool
from usage_service.shared.settings import MIRROR, MIRROR_URL
from warehouse.queries import render

DAYS = 90
PROJECTIONS = ("popularity", "sessions")
WANTED_A_SECOND, MOST_LAG_SECONDS, PAUSES = 50_000.0, 120.0, 2.5
CONNECTIONS, BATCH = 16, 100
LIMITS = MirrorLimits()


class Mirrored(NamedTuple):
    """A mirroring of a whole log: events a second, and bytes of Parquet an event."""

    events_a_second: float
    bytes: float


def measure_mirror(stack: Stack, runs: int, seconds: float, events: int) -> Iterator[Row]:
    """Measure mirroring `events` events, and how far the mirror falls behind while a server takes all that it can."""
    url = stack.database("mirror")
    with stack.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS)
    with _warehouse(stack.directory / "warehouse") as address:
        mirrored = [
            asyncio.run(_mirror(url, MirrorPlace(f"glam-project.run_{run}", address))) for run in range(min(runs, 3))
        ]
        yield Row(f"mirror of {events:,} events, with the load by the embedded warehouse", "events/s",
                  [one.events_a_second for one in mirrored], "wanted", [WANTED_A_SECOND] * len(mirrored),
                  1)  # fmt: skip
        stored = float(psql(url, "SELECT pg_total_relation_size('event_log')::float8 / count(*) FROM event_log"))
        yield _rebuilding(url, MirrorPlace("glam-project.run_0", address), min(runs, 3), events)
        yield Row("a file of the mirror", "bytes an event", [one.bytes for one in mirrored],
                  "event_log with its indexes", [stored] * len(mirrored), 0.5, most=True)  # fmt: skip
        yield _lag_under_load(stack, MirrorPlace("glam-project.under_load", address), seconds)


@contextmanager
def _warehouse(directory: Path) -> Iterator[str]:
    """Serve an empty warehouse in a process of its own."""
    directory.mkdir()
    with duckdb.connect(directory / "warehouse.duckdb") as connection:
        connection.execute(render("store"))
    port = free_port()
    command = ["builder", "warehouse", "serve", "--port", str(port), "--data-dir", str(directory)]
    process = subprocess.Popen(
        owned_command([sys.executable, "-m", *command]), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def _mirror(url: str, place: MirrorPlace) -> Mirrored:
    async with open_pool(url, role="usage_server", application="bench", size=2) as pool:
        async with opened_mirror(pool, url, place, LIMITS) as mirror:
            begun = time.perf_counter()
            await mirror.catch_up()
            seconds = time.perf_counter() - begun
            await mirror.verify()
        [(events, size)] = await pool.fetch(
            "SELECT sum(events)::float8, sum(bytes)::float8 FROM mirror_loads WHERE mirror = $1", place.mirror
        )
    return Mirrored(events / seconds, size / events)


def _rebuilding(url: str, place: MirrorPlace, runs: int, events: int) -> Row:
    """Return how fast projections are rebuilt in the warehouse, and by PostgreSQL, as an operator runs it."""
    environment = {MIRROR: place.mirror, MIRROR_URL: str(place.warehouse_url)}
    there, here = list[float](), list[float]()
    for _ in range(runs):
        there.append(events / rebuild(url, *PROJECTIONS, "--in", "bigquery", environment=environment))
        here.append(events / rebuild(url, *PROJECTIONS))
    what = f"rebuild of {' and '.join(PROJECTIONS)} in the embedded warehouse, {events:,} events"
    return Row(what, "events/s", there, "folded by PostgreSQL", here, None)


def _lag_under_load(stack: Stack, place: MirrorPlace, seconds: float) -> Row:
    """Return the greatest lag while the load generator keeps a server busy, with the pause that is the default."""
    lasts = max(seconds, PAUSES * LIMITS.seconds)
    with stack.serving(stack.database("mirror_lag")) as server:
        over, lags = threading.Event(), list[float]()
        watching = threading.Thread(target=lambda: asyncio.run(_watch(server.url, place, over, lags)), daemon=True)
        watching.start()
        load = stack.load(server, connections=CONNECTIONS, events=BATCH, seconds=lasts, seed="mirror")
        over.set()
        watching.join(60)
    note = f"{load.events_a_second:,.0f} events a second recorded for {lasts:.0f} s"
    return Row("lag of the mirror under full load, at most", "s", [max(lags)], "wanted", [MOST_LAG_SECONDS], 1, note,
               most=True)  # fmt: skip


async def _watch(url: str, place: MirrorPlace, over: threading.Event, lags: list[float]) -> None:
    """Mirror a log, and note each second how far behind the mirror is."""
    async with open_pool(url, role="usage_server", application="bench", size=3) as pool:
        mirroring = asyncio.create_task(keep_mirror(pool, url, place, LIMITS))
        while not over.is_set():
            await asyncio.sleep(1)
            async with pool.acquire() as connection:
                lags += [state.behind_seconds for state in await mirror_states(connection)]
        mirroring.cancel()
        await asyncio.wait([mirroring])
