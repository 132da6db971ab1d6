"""Measurements of a large log: the same load on a full log and on an empty one, in turns."""

from __future__ import annotations

from collections.abc import Iterator

from bench.numbers import Load, Row, latencies, rates
from bench.stack import Server, Stack, fill, psql
from usage_service.shared.progress import progress

STEP = 1_000_000
LOADS = ((32, 1), (16, 100))
FILL_SETTINGS = "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2;"


def measure_large(stack: Stack, runs: int, seconds: float, events: int) -> Iterator[Row]:
    """Measure append rates with `events` in the log, and with none."""
    with (
        stack.serving(stack.database("large")) as large,
        stack.serving(stack.database("empty")) as empty,
    ):
        _fill_fast(large.url, events)
        for load in LOADS:
            yield _row(stack, large, empty, runs, seconds, load, events)


def _row(
    stack: Stack, large: Server, empty: Server, runs: int, seconds: float, load: tuple[int, int], events: int
) -> Row:
    connections, each = load
    full: list[Load] = []
    new: list[Load] = []
    for run in range(runs):
        for server, loads in ((large, full), (empty, new)):
            seed = f"large {server.port} {each} {run}"
            loads.append(stack.load(server, connections=connections, events=each, seconds=seconds, seed=seed))
    what = f"{each} events a request, {events:,} in the log"
    return Row(what, "events/s", rates(full), "none in the log", rates(new), 0.8, latencies(full))


def _fill_fast(url: str, events: int) -> None:
    """Fill the log without its indexes, and create them afterwards with the same definitions."""
    psql(url, "ALTER TABLE event_log DROP CONSTRAINT event_id_is_used_once")
    with progress("filling the log", events) as report:
        for first in range(1, events + 1, STEP):
            last = min(first + STEP - 1, events)
            fill(url, first, last)
            report(last)
    psql(url, FILL_SETTINGS, "ALTER TABLE event_log ADD CONSTRAINT event_id_is_used_once UNIQUE (event_id)",
         timeout=3_600)  # fmt: skip
    psql(url, "VACUUM (FREEZE, ANALYZE) event_log", timeout=3_600)
