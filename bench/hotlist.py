"""Measurements of the hot list as the server answers it: after something has changed, and of what its nights teach."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psutil

from bench.asking import UnavailableError, answer_of, milliseconds, record
from bench.numbers import Row, percentile
from bench.pages import PROBES
from bench.rebuilding import fold_all, rebuild
from bench.stack import BenchError, Server, Stack, fill_catalogue, fill_traffic
from usage_service.shared.progress import progress

DAYS = 400  # as many as a list learns from
REQUESTS, WARM, MOST_ASKED = 100, 5, 10
MOST_MILLISECONDS, MOST_SECONDS = 25.0, 30.0
LIST, NIGHTS = "/v1/hotlist?product=fog&budget=500", "/v1/hotlist/backtest?product=fog&nights=90"
FOLDED = "/v1/popularity?product=fog&order=least&limit=1"  # waits for the projections of views and of the catalogue
Events = Sequence[dict[str, Any]]


class Change(NamedTuple):
    """Events that come before each list, and how often they are tried."""

    events: Callable[[random.Random], Events]
    most: float | None = MOST_MILLISECONDS


def view(chance: random.Random, days_ago: int = 0) -> dict[str, Any]:
    """Return a view of some probe by one of many people."""
    return {
        "type": "probe_viewed", "occurred_at": _ago(days_ago), "visitor": f"bench {chance.randrange(500)}",
        "channel": "nightly", "probe": _name(chance), "data": {"found": True},
    }  # fmt: skip


def built(chance: random.Random) -> dict[str, Any]:
    """Return the ETL's report of some probe."""
    return {"type": "probe_built", "occurred_at": _ago(0), "channel": "nightly", "probe": _name(chance), "data": {}}


def registered(chance: random.Random) -> dict[str, Any]:
    """Return a probe that is new to the catalogue."""
    data = {"type": "counter", "ping": "metrics"}
    return {"type": "probe_registered", "occurred_at": _ago(0), "probe": f"new_{chance.getrandbits(60)}", "data": data}


def retired(chance: random.Random) -> dict[str, Any]:
    """Return some probe's retirement."""
    return {"type": "probe_retired", "occurred_at": _ago(0), "probe": _name(chance), "data": {}}


CHANGES = {
    "a view": Change(lambda chance: [view(chance)]),
    "100 views": Change(lambda chance: [view(chance) for _ in range(100)]),
    "a view of yesterday": Change(lambda chance: [view(chance, 1)]),
    "a view of 10 days ago": Change(lambda chance: [view(chance, 10)], most=None),
    "100 reports of the ETL": Change(lambda chance: [built(chance) for _ in range(100)]),
    "a new probe": Change(lambda chance: [registered(chance)]),
    "a retired probe": Change(lambda chance: [retired(chance)], most=None),
}


def _ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def _name(chance: random.Random) -> str:
    return f"probe_{int(PROBES * chance.random() ** 3):04}"


def measure_hotlist(stack: Stack, runs: int, seconds: float, events: int) -> Iterator[Row]:
    """Measure p99 of the list after changes of each kind, and 90 nights of all policies; `seconds` is not used."""
    url = stack.database("hotlist")
    with stack.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS, PROBES)
    fill_catalogue(url, PROBES, DAYS)
    rebuild(url, "catalogue")
    fold_all(url)
    with stack.serving(url) as server:
        yield from measured_lists(server, runs, events)


def measured_lists(server: Server, runs: int, events: int) -> Iterator[Row]:
    """Measure the lists of a server whose projections have folded so many events."""
    scale = f"{events:,} events, {PROBES:,} probes"
    yield _once(server, f"the first list after a start, {scale}", LIST)
    for what, change in CHANGES.items():
        yield _after(server, what, change, runs, scale)
    yield _once(server, f"backtest of 90 nights, all policies, {scale}", NIGHTS)
    peak = psutil.Process(server.pid).memory_info().rss / 1e6
    yield Row("memory of the server after it", "MB", [peak], "allowed", [1_000.0], 1, most=True)


def _after(server: Server, what: str, change: Change, runs: int, scale: str) -> Row:
    chance, took, spent = random.Random(what), list[list[float]](), list[float]()
    numbers = [WARM, *[REQUESTS if change.most else WARM] * runs]  # the first run warms up
    with progress(f"lists after {what}", sum(numbers)) as report:
        for number in numbers:
            took.append([])
            for _ in range(number):
                record(server, change.events(chance), FOLDED)
                before = _processor(server)
                took[-1].append(milliseconds(server, LIST))
                spent.append((_processor(server) - before) * 1e3)
                report(len(spent))
    p99 = [percentile(one, 0.99) for one in took[1:]]
    every, own = [one for run in took[1:] for one in run], sum(spent[WARM:]) / (len(spent) - WARM)
    note = f"p50 {percentile(every, 0.5):.1f} ms; {own:.1f} ms of the server's processor each"
    named = f"the list after {what}, {scale}: p99"
    return Row(named, "ms", p99, "allowed", [change.most or MOST_SECONDS * 1e3] * runs, 1, note, True)


def _once(server: Server, what: str, path: str) -> Row:
    """Measure an answer that takes seconds."""
    before, started, asked = _processor(server), time.perf_counter(), 1
    while not _is_answered(server, path):  # a busy machine: what was read and learned until then is kept
        if (asked := asked + 1) > MOST_ASKED:
            raise BenchError(f"{path} was not answered {MOST_ASKED} times")
    took = time.perf_counter() - started
    note = f"{_processor(server) - before:.1f} s of the server's processor, asked {asked} times"
    return Row(what, "s", [took], "allowed", [MOST_SECONDS], 1, note, most=True)


def _is_answered(server: Server, path: str) -> bool:
    try:
        answer_of(server, "GET", path)
    except UnavailableError:
        return False
    return True


def _processor(server: Server) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)
