"""Measurements of what an event costs, step by step, in processor time: that of a busy machine is nearly the same."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import msgspec
import psutil

from bench.events import make_bodies
from bench.numbers import Row
from bench.stack import Stack, psql
from usage_service.ingest.appending import Record, append, columns_of
from usage_service.ingest.parsing import Envelope, Reader, parse_body
from usage_service.ingest.visitors import VisitorKeys
from usage_service.queries import query
from usage_service.shared.postgres import Connection, connect
from usage_service.shared.schema import install_schema

BODY, BODIES = 100, 200
BATCH, BATCHES = 800, 25
SMALL, LARGE = 500, 20_000
APPENDED = BATCH * BATCHES
FOLDED = 2 * LARGE
MICROSECONDS = 1e6
FOLDS = {
    "sessions": "sessions, session_counts",
    "popularity": "popularity_returns, popularity_series, popularity_views, popularity_visitors",
    "journeys": "journey_events",
    "timeseries": "probe_hours",
}


class Cost(NamedTuple):
    """Processor time an event, in microseconds: of this process, which does the server's part, and of its backend."""

    server: float
    postgres: float


def measure_steps(stack: Stack, runs: int, seconds: float) -> Iterator[Row]:
    """Measure judging, appending and folding; each run does as much, however long that takes."""
    yield _measure_judging(runs)
    url = stack.database("steps")
    asyncio.run(install_schema(url))
    psql(url, "CREATE TABLE copied (LIKE event_log INCLUDING ALL)")
    yield from asyncio.run(_measure_appending(url, runs))
    yield asyncio.run(_measure_folding(url, runs))


def _measure_judging(runs: int) -> Row:
    costs: dict[bool, list[float]] = {True: [], False: []}
    for run in range(runs):
        for together, taken in costs.items():
            taken.append(_judging_cost(f"judging {run}", together=together))
    what = f"parse and judge, {BODY} a body"
    return Row(what, "us an event", costs[True], "each decoded by itself", costs[False], 0.6, most=True)


async def _measure_appending(url: str, runs: int) -> list[Row]:
    ways: dict[str, list[Cost]] = {"new": [], "judged": [], "copied": []}
    connection = await connect(url, application="bench")
    try:
        for run in range(runs):
            for way, taken in ways.items():
                taken.append(await _append_cost(connection, way, f"{way} {run}"))
    finally:
        await connection.close()
    appended = f"append, {BATCH} a transaction"
    copy = "COPY of the rows into a table with the same indexes"
    server, postgres = ({way: [cost[part] for cost in costs] for way, costs in ways.items()} for part in (0, 1))
    return [
        Row(f"{appended}, the server's part", "us an event", server["new"], "append_events()", server["judged"], 0.8,
            most=True),
        Row(f"{appended}, PostgreSQL's part", "us an event", postgres["new"], "append_events()", postgres["judged"],
            0.7, most=True),
        Row(f"{appended}, PostgreSQL's part", "us an event", postgres["new"], copy, postgres["copied"], 1.5, most=True),
    ]  # fmt: skip


async def _measure_folding(url: str, runs: int) -> Row:
    connection = await connect(url, application="bench")
    try:
        folds = {size: [await _fold_cost(connection, size) for _ in range(runs)] for size in (SMALL, LARGE)}
    finally:
        await connection.close()
    what = f"fold of the four largest projections, {LARGE:,} a batch"
    return Row(what, "us an event", folds[LARGE], f"{SMALL} a batch", folds[SMALL], 0.5, most=True)


def _judging_cost(seed: str, *, together: bool) -> float:
    reader, received = Reader(VisitorKeys("a secret for measurements", 90)), datetime.now(UTC)
    bodies = list(islice(make_bodies(seed, BODY), BODIES))
    began = time.process_time()
    for body in bodies:
        posted = parse_body(body) if together else Envelope(msgspec.json.decode(body, type=list[msgspec.Raw]))
        reader.read(posted, "bench", received)
    return (time.process_time() - began) / (BODY * BODIES) * MICROSECONDS


def _records(seed: str, events: int, size: int) -> list[list[Record]]:
    reader = Reader(VisitorKeys("a secret for measurements", 90))
    read = (reader.read(parse_body(body), "bench", datetime.now(UTC)) for body in make_bodies(seed, size))
    return [[item for item in judged if isinstance(item, Record)] for judged in islice(read, events // size)]


async def _append_cost(connection: Connection, way: str, seed: str) -> Cost:
    if way == "copied":
        return await _copy_cost(connection)
    batches = _records(seed, APPENDED, BATCH)
    gc.collect()
    gc.freeze()  # as the server does: what is made ready here is not looked through again and again

    async def append_all() -> None:
        for records in batches:
            if way == "new":
                await append(connection, records)
            else:
                await connection.fetch(query("log", "append"), *columns_of(records))

    return await _cost(connection, append_all, APPENDED)


async def _copy_cost(connection: Connection) -> Cost:
    """Copy the last events in as many transactions as they came in."""
    last: int = await connection.fetchval("SELECT last_position()")
    found = await connection.fetch("SELECT * FROM event_log WHERE position > $1", last - APPENDED)
    rows = [tuple(row) for row in found]

    async def copy_all() -> None:
        for begin in range(0, APPENDED, BATCH):
            await connection.copy_records_to_table("copied", records=rows[begin : begin + BATCH])

    return await _cost(connection, copy_all, APPENDED)


async def _fold_cost(connection: Connection, size: int) -> float:
    """Fold the end of the log after some that was folded before it, projection by projection."""
    last: int = await connection.fetchval("SELECT last_position()")
    total = 0.0
    for name, tables in FOLDS.items():
        await connection.execute(f"TRUNCATE {tables}")
        begin = last - FOLDED - LARGE
        await connection.execute("UPDATE projections SET position = $2 WHERE name = $1", name, begin)
        await connection.execute("SELECT advance_projection($1, $2)", name, LARGE)

        async def fold_all(name: str = name) -> None:
            for _ in range(0, FOLDED, size):
                await connection.execute("SELECT advance_projection($1, $2)", name, size)

        total += (await _cost(connection, fold_all, FOLDED)).postgres
    return total


async def _cost(connection: Connection, work: Callable[[], Awaitable[None]], events: int) -> Cost:
    backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
    before, began = backend.cpu_times(), time.process_time()
    await work()
    ours, after = time.process_time() - began, backend.cpu_times()
    theirs = after.user + after.system - before.user - before.system
    return Cost(ours / events * MICROSECONDS, theirs / events * MICROSECONDS)
