"""Measurements of folding: events a second, and the lag from acknowledged to folded."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import aiohttp
import asyncpg
import msgspec

from bench.events import make_events
from bench.long_sessions import measure_long_sessions
from bench.numbers import Load, Row, cores, percentile, rates
from bench.stack import BenchError, Server, Stack, psql

CONNECTIONS, BATCH = 16, 100
CATCH_UP_SECONDS = 300
POSTERS = 4
POLL_SECONDS = 0.004
POSITION = "SELECT min(position) FROM projections WHERE stage = 'live' AND name IN ('popularity', 'sessions')"
FORGET = """
    TRUNCATE popularity_returns, popularity_series, popularity_views, popularity_visitors, sessions, session_counts;
    UPDATE projections SET position = 0 WHERE name IN ('popularity', 'sessions');
"""


def measure_folding(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure how fast a server folds the log of each load again, and the lag at half and at all of that load."""
    loads: list[Load] = []
    folded: list[float] = []
    lags: dict[float, list[list[float]]] = {0.5: [], 1.0: []}
    with ExitStack() as exits:
        for run in range(runs):
            server = exits.enter_context(stack.serving(stack.database(f"folding_{run}")))
            loads.append(_load(stack, server, seconds, f"folding {run}"))
            folded.append(_fold_rate(stack, server))
            for share, of_share in lags.items():
                rate = share * loads[-1].requests_a_second if share < 1 else 0
                seed = f"folding {run} {share}"
                with stack.loading(
                    server, connections=CONNECTIONS, events=BATCH, seconds=3 * seconds, seed=seed, rate=rate
                ):
                    of_share.append(asyncio.run(_lags(server, 2.5 * seconds, seed)))
    append = f"append, {BATCH} events a request"
    return [
        Row("live fold, sessions and popularity", "events/s", folded, append, rates(loads), 2, cores(loads)),
        _lag_row("half of full load", lags[0.5], 100.0),
        _lag_row("full load", lags[1.0], 1_000.0),
        measure_long_sessions(stack, runs),
    ]


def _load(stack: Stack, server: Server, seconds: float, seed: str) -> Load:
    return stack.load(server, connections=CONNECTIONS, events=BATCH, seconds=seconds, seed=seed)


def _lag_row(load: str, lags: list[list[float]], allowed: float) -> Row:
    p99 = [percentile(lag, 0.99) * 1e3 for lag in lags]
    p50, p95 = (percentile([value for lag in lags for value in lag], share) * 1e3 for share in (0.5, 0.95))
    note = f"p50 {p50:.1f} ms, p95 {p95:.1f} ms of {sum(map(len, lags)):,} events posted one by one beside the load"
    what = f"from acknowledged to visible at {load}, p99"
    return Row(what, "ms", p99, "allowed", [allowed] * len(p99), 1, note, most=True)


def _fold_rate(stack: Stack, server: Server) -> float:
    """Return the events a second from empty projections to the end of the log, without other load."""
    stack.settle(server)
    events = int(psql(server.url, "SELECT last_position()"))
    started = time.perf_counter()
    psql(server.url, FORGET)
    asyncio.run(_until_folded(server, events))
    return events / (time.perf_counter() - started)


async def _folded_to(connection: asyncpg.Connection[asyncpg.Record], position: int) -> None:
    async with asyncio.timeout(CATCH_UP_SECONDS):
        while True:
            if await connection.fetchval(POSITION) >= position:
                return
            await asyncio.sleep(POLL_SECONDS)


async def _until_folded(server: Server, position: int) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await _folded_to(connection, position)
    finally:
        await connection.close()


async def _lags(server: Server, seconds: float, seed: str) -> list[float]:
    """Return the seconds from the answer to each posted event until both projections have it, of a few who post."""
    ends = time.perf_counter() + seconds
    lags = await asyncio.gather(*(_lags_of_one(server, f"lag {number} {seed}", ends) for number in range(POSTERS)))
    return [lag for of_one in lags for lag in of_one]


async def _lags_of_one(server: Server, seed: str, ends: float) -> list[float]:
    events, lags = make_events(seed), list[float]()
    url, headers = f"http://127.0.0.1:{server.port}/v1/events", {"Content-Type": "application/json"}
    connection = await asyncpg.connect(server.url)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            while time.perf_counter() < ends or not lags:
                async with session.post(url, data=next(events), headers=headers) as response:
                    body = msgspec.json.decode(await response.read())
                acknowledged = time.perf_counter()
                if response.status != 201:
                    raise BenchError(f"an event was answered with {response.status}")
                await _folded_to(connection, body["events"][0]["position"])
                lags.append(time.perf_counter() - acknowledged)
    finally:
        await connection.close()
    return lags
