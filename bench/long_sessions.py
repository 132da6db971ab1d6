"""Measurement of what an event of a visitor who never pauses costs to fold, in processor time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from bench.numbers import Row
from bench.stack import Stack, psql
from usage_service.shared.postgres import connect
from usage_service.shared.schema import install_schema

VISITORS, BATCH, FOLDED = 100, 100, 6_000
SHORT, LONG = 10, 1_000  # names that visitors view
VIEWS_EACH = 20
FIRST_MINUTES = 20


def measure_long_sessions(stack: Stack, runs: int) -> Row:
    """Measure folding an event of sessions with hundreds of names against one of sessions with ten, in turns."""
    urls = {names: _filled(stack, names, runs) for names in (SHORT, LONG)}
    costs: dict[int, list[float]] = {SHORT: [], LONG: []}
    for _ in range(runs):
        for names, url in urls.items():
            costs[names].append(asyncio.run(_fold_cost(url)))
    return Row(
        f"fold of sessions with hundreds of names, {BATCH} events a batch of {VISITORS} visitors", "us an event",
        costs[LONG], f"of sessions with {SHORT} names", costs[SHORT], 1.3, most=True,
    )  # fmt: skip


def _filled(stack: Stack, names: int, runs: int) -> str:
    """Return the URL of a database whose sessions have names already, and go on with as many events again."""
    url = stack.database(f"long_sessions_{names}")
    asyncio.run(install_schema(url))
    before = VISITORS * names * VIEWS_EACH // 10
    _fill(url, 1, before, names, minute=0)
    psql(url, f"SELECT advance_projection('sessions', {before})", "VACUUM ANALYZE")
    _fill(url, before + 1, before + FOLDED * runs, names, minute=FIRST_MINUTES)
    return url


def _fill(url: str, first: int, last: int, names: int, minute: int) -> None:
    variables = {"first": first, "last": last, "names": names, "minute": minute}
    variables["step"] = max(1, FIRST_MINUTES * 60_000 // (last - first + 1))
    given = [f"\\set {name} {value}" for name, value in variables.items()]
    psql(url, *given, f"\\i {Path(__file__).with_name('long_sessions.sql')}")


async def _fold_cost(url: str) -> float:
    """Return the processor time of the backend for each of the next events, in microseconds."""
    connection = await connect(url, application="bench")
    try:
        backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        before = backend.cpu_times()
        for _ in range(0, FOLDED, BATCH):
            await connection.execute("SELECT advance_projection('sessions', $1)", BATCH)
        after = backend.cpu_times()
    finally:
        await connection.close()
    return (after.user + after.system - before.user - before.system) / FOLDED * 1e6
