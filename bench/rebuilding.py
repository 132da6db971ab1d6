"""Measurements of rebuilding projections and replaying the log, against appending and copying it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

from bench.numbers import Row, rates
from bench.stack import BENCH_ENVIRONMENT, ROOT, BenchError, Stack, fill_traffic, psql, psql_seconds

CONNECTIONS, BATCH, DAYS = 16, 100, 90
PROJECTIONS = ("popularity", "sessions", "journeys", "timeseries")  # the others fold next to nothing of it
NOTHING = """
class Nothing:
    def apply(self, batch):
        pass

    def result(self):
        return {}
"""


def measure_rebuilding(stack: Stack, runs: int, seconds: float, events: int) -> list[Row]:
    """Measure `usage-service projections rebuild` and `replay` of `events` events, as an operator runs them."""
    url = stack.database("rebuilding")
    with stack.serving(stack.database("appending")) as server:
        loads = [
            stack.load(server, connections=CONNECTIONS, events=BATCH, seconds=seconds, seed=f"rebuilding {run}")
            for run in range(runs)
        ]
    with stack.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS)
    rebuilt = [events / _seconds(url, "projections", "rebuild", *PROJECTIONS) for _ in range(min(runs, 3))]
    analysis = stack.directory / "nothing.py"
    analysis.write_text(NOTHING)
    start = min(_seconds(url, "replay", str(analysis), "--source", url, "--after", str(events)) for _ in range(2))
    replayed, copied = list[float](), list[float]()
    for _ in range(runs):
        replayed.append(events / (_seconds(url, "replay", str(analysis), "--source", url) - start))
        copied.append(events / psql_seconds(url, r"\copy event_log TO '/dev/null' (FORMAT binary)"))
    append, appended = f"append, {BATCH} events a request", rates(loads)[: len(rebuilt)]
    note = f"start-up of the command ({start:.2f} s) not counted"
    copy = "COPY event_log TO STDOUT (FORMAT binary)"
    return [
        Row(f"rebuild of all projections of traffic, {events:,} events", "events/s", rebuilt, append, appended, 5),
        Row(f"replay of {events:,} events, an empty apply()", "events/s", replayed, copy, copied, 0.5, note),
    ]


def _seconds(url: str, *arguments: str, environment: Mapping[str, str] | None = None) -> float:
    """Return the seconds that a command takes."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "usage_service", *arguments],
        env=BENCH_ENVIRONMENT | {"DATABASE_URL": url} | dict(environment or {}), cwd=ROOT, capture_output=True,
        timeout=3_600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"usage-service {arguments[0]} failed:\n{done.stderr.decode()[-2000:]}")
    return time.perf_counter() - started


def fold_all(url: str) -> None:
    """Bring the projections to the end of the log by rebuilding them, which is much faster than live folding."""
    rebuild(url, *PROJECTIONS)
    psql(url, "VACUUM ANALYZE", timeout=1_800)


def rebuild(url: str, *arguments: str, environment: Mapping[str, str] | None = None) -> float:
    """Rebuild projections, so that they have folded the log; return the seconds that it took."""
    return _seconds(url, "projections", "rebuild", *arguments, environment=environment)
