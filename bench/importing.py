"""Measurement of importing a file, beside posting the same number of events from memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import islice
from pathlib import Path

import msgspec

from bench.access_log import measure_access_log
from bench.events import make_events
from bench.numbers import Load, Row, cores, rates
from bench.stack import BenchError, Server, Stack
from usage_service.imports.batches import MOST_EVENTS
from usage_service.imports.importing import REQUESTS, import_file
from usage_service.shared.progress import progress


def measure_importing(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure the import of a file of events without ids, and posts of as large batches, in turns."""
    imported: list[float] = []
    seconds_each: list[float] = []
    posted: list[Load] = []
    with stack.serving(stack.database("importing")) as server:
        for run in range(runs):
            seed = f"importing {run}"
            load = stack.load(server, connections=REQUESTS, events=MOST_EVENTS, seconds=seconds, seed=f"posts {run}")
            posted.append(load)
            path = _write(stack.directory / "events.ndjson", seed, int(load.events_a_second * seconds))
            stack.settle(server)
            rate, each = _rate(server, path)
            imported.append(rate)
            seconds_each.append(each)
    what = f"a file of events, {REQUESTS} requests of {MOST_EVENTS:,} under way"
    note = f"{cores(posted)}; the importer takes {1e6 * statistics.median(seconds_each):.1f} us of a core an event"
    return [
        Row(what, "events/s", imported, "the same requests, made before", rates(posted), 0.9, note),
        *measure_access_log(stack.directory / "access.log", runs),
    ]


def _write(path: Path, seed: str, events: int) -> Path:
    """Write events as a log of them would have them: without ids."""
    with path.open("wb") as file, progress("writing a file", events) as report:
        for number, event in enumerate(islice(make_events(seed), events)):
            fields = msgspec.json.decode(event)
            del fields["event_id"]
            file.write(msgspec.json.encode(fields) + b"\n")
            report(number)
    return path


def _rate(server: Server, path: Path) -> tuple[float, float]:
    """Import a file; return the events a second, and the processor time of this process an event."""
    began, used = time.perf_counter(), time.process_time()
    stats = asyncio.run(import_file(path, f"http://127.0.0.1:{server.port}", None))
    if stats.statuses.keys() != {"recorded"}:
        raise BenchError(f"not everything was recorded: {stats.statuses}, {stats.refusals}")
    events = stats.statuses["recorded"]
    return events / (time.perf_counter() - began), (time.process_time() - used) / events
