"""Lag of projections while there is load: the age of the first event that one has not folded."""

from __future__ import annotations

import asyncio
import subprocess

import asyncpg
import msgspec

from bench.numbers import Load
from bench.stack import BenchError, Server, Stack

EVERY_SECONDS = 0.05
BEHIND = """
    SELECT coalesce((
        SELECT extract(epoch FROM clock_timestamp() - recorded_at) FROM event_log
        WHERE position > (SELECT min(position) FROM projections WHERE stage = 'live') ORDER BY position LIMIT 1
    ), 0)::float
"""


def loaded_with_lag(
    stack: Stack, server: Server, *, connections: int, events: int, seconds: float, seed: str, rate: float = 0
) -> tuple[Load, list[float]]:
    """Put load on a server, and return its result with how many seconds projections were behind, time and again."""
    with stack.loading(
        server, connections=connections, events=events, seconds=seconds, seed=seed, rate=rate
    ) as process:
        lags = asyncio.run(_lags(server, process))
        output, errors = process.communicate(timeout=60)
    if process.returncode:
        raise BenchError(f"the load generator failed:\n{errors.decode()[-2000:]}")
    return msgspec.json.decode(output, type=Load), lags


async def _lags(server: Server, process: subprocess.Popen[bytes]) -> list[float]:
    """Return how far projections were behind until the process of the load ended."""
    lags: list[float] = []
    connection = await asyncpg.connect(server.url)
    try:
        while process.poll() is None:
            lags.append(await connection.fetchval(BEHIND))
            await asyncio.sleep(EVERY_SECONDS)
    finally:
        await connection.close()
    return lags
