"""Measurements of recording events: one a request, and a hundred a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from bench.lag import loaded_with_lag
from bench.numbers import Load, Rate, Row, cores, costs, latencies, percentile, rates
from bench.peers.event_stores import EventStore, event_stores, insert_rate
from bench.processor_time import Clock
from bench.stack import BenchError, Server, Stack, psql, psql_seconds

CONNECTIONS = 32
BATCH_CONNECTIONS = 16
BATCH = 100
MINUTE = 20  # times the seconds of other runs
CURRENT_SECONDS = 1.0  # how far behind projections may be that are called current
BURST_SECONDS = 10.0  # and in a burst
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
STORES = ("eventsourcing", "UmaDB", "message-db")
CALLERS = {"eventsourcing": (1, 1), "UmaDB": (32, 16), "message-db": (32, 16)}  # of singles and of batches
COPY = "COPY of the rows into a table with the same indexes"


def measure_requests(stack: Stack, runs: int, seconds: float) -> Iterator[Row]:
    """Measure one event a request, the variants taking turns."""
    loads: dict[str | None, list[Load]] = {None: [], "null": [], "single": []}
    theirs: dict[str, list[Rate]] = {name: [] for name in STORES}
    with ExitStack() as exits:
        stores = exits.enter_context(event_stores(stack, "requests"))
        servers = {
            mode: exits.enter_context(stack.serving(stack.database(f"requests_{mode or 'real'}"), mode))
            for mode in loads
        }
        for run in range(runs):
            for mode, server in servers.items():
                seed = f"requests {mode} {run}"
                loads[mode].append(stack.load(server, connections=CONNECTIONS, events=1, seconds=seconds, seed=seed))
            _insert(stores, theirs, 1, seconds, f"requests peer {run}")
    what, real = f"one event a request, {CONNECTIONS} connections", loads[None]
    for mode, against, reach in (("null", "the same without the database", 0.8), ("single", "a commit for each", 3)):
        other = loads[mode]
        note = f"{_in_words(real)}; {against}: {_in_words(other)}"
        yield Row(what, "events/s", rates(real), against, rates(other), reach, note)
    yield from _beside(what, real, theirs, 1, {"eventsourcing": 8})


def measure_batches(stack: Stack, runs: int, seconds: float) -> Iterator[Row]:
    """Measure a burst of a hundred events a request, and copying the rows of each run."""
    loads: list[Load] = []
    copies: list[Rate] = []
    behind: list[float] = []
    theirs: dict[str, list[Rate]] = {name: [] for name in STORES}
    with event_stores(stack, "batches") as stores, stack.serving(stack.database("batches")) as server:
        psql(server.url, "CREATE TABLE copied (LIKE event_log INCLUDING ALL)")
        for run in range(runs):
            load, lags = loaded_with_lag(
                stack, server, connections=BATCH_CONNECTIONS, events=BATCH, seconds=seconds, seed=f"batches {run}"
            )
            loads.append(load)
            behind.append(max(lags))
            copies.append(_copy_rate(stack, server))
            _insert(stores, theirs, BATCH, seconds, f"batches peer {run}")
    what = f"burst, {BATCH} events a request, {BATCH_CONNECTIONS} connections"
    yield Row(what, "events/s", rates(loads), COPY, rates(copies), 0.4, f"{_in_words(loads)}; COPY: {cores(copies)}")
    yield Row(f"{what}: how far projections are behind, the most", "ms", [1e3 * most for most in behind], "allowed",
              [1e3 * BURST_SECONDS] * runs, 1, most=True)  # fmt: skip
    yield from _beside(what, loads, theirs, BATCH, {})


def measure_sustained(stack: Stack, runs: int, seconds: float) -> Iterator[Row]:
    """Measure a hundred events a request for a minute in which all projections are current.

    The load is as much as the server takes; where projections fall behind, a share of that.
    """
    loads: list[Load] = []
    lags: list[float] = []
    copies: list[Rate] = []
    theirs: dict[str, list[Rate]] = {name: [] for name in STORES}
    with event_stores(stack, "sustained") as stores, stack.serving(stack.database("sustained")) as server:
        psql(server.url, "CREATE TABLE copied (LIKE event_log INCLUDING ALL)")
        for run in range(runs):
            load, lag = _sustain(stack, server, seconds * MINUTE, f"sustained {run}")
            loads.append(load)
            lags.append(1e3 * lag)
            copies.append(_copy_rate(stack, server))
            _insert(stores, theirs, BATCH, seconds, f"sustained peer {run}")
    what = f"sustained, {BATCH} events a request, {BATCH_CONNECTIONS} connections, {seconds * MINUTE:g} s"
    yield Row(what, "events/s", rates(loads), COPY, rates(copies), 0.25, f"{_in_words(loads)}; COPY: {cores(copies)}")
    yield Row(f"{what}: how far projections are behind, p99", "ms", lags, "allowed", [1e3 * CURRENT_SECONDS] * runs, 1,
              most=True)  # fmt: skip
    yield Row(f"{what}: processor time, server and PostgreSQL", "us an event", costs(loads, "server", "PostgreSQL"),
              "allowed", [30.0] * runs, 1, most=True)  # fmt: skip
    yield from _beside(what, loads, theirs, BATCH, {"eventsourcing": 2.2})


def _sustain(stack: Stack, server: Server, seconds: float, seed: str) -> tuple[Load, float]:
    """Return the largest load with projections that are current, and the p99 of how far they are behind."""
    most: float | None = None
    for share in SHARES:
        load, lags = loaded_with_lag(
            stack, server, connections=BATCH_CONNECTIONS, events=BATCH, seconds=seconds, seed=f"{seed} {share}",
            rate=0 if most is None else share * most,
        )  # fmt: skip
        most = most or load.requests_a_second
        behind = percentile(lags, 0.99)
        if behind <= CURRENT_SECONDS:
            return load, behind
    raise BenchError(f"projections are {behind:.1f} s behind at {SHARES[-1]:g} of what the server takes")


def _insert(
    stores: Mapping[str, EventStore], theirs: Mapping[str, list[Rate]], batch: int, seconds: float, seed: str
) -> None:
    """Add a run of each event store that is there."""
    for name, store in stores.items():
        theirs[name].append(insert_rate(store, batch, CALLERS[name][batch > 1], seconds, f"{seed} {name}"))


def _beside(
    what: str, ours: list[Load], theirs: Mapping[str, list[Rate]], batch: int, reach: Mapping[str, float]
) -> Iterator[Row]:
    """Yield a row for each event store; those without a figure to be reached are shown only."""
    for name in STORES:
        callers = CALLERS[name][batch > 1]
        against = f"{name}, {batch} a call, {callers} {'caller' if callers == 1 else 'callers'}"
        note = f"{against}: {cores(theirs[name])}"
        yield Row(what, "events/s", rates(ours), against, rates(theirs[name]), reach.get(name), note)


def _in_words(loads: list[Load]) -> str:
    return f"{latencies(loads)}; {cores(loads)}"


def _copy_rate(stack: Stack, server: Server) -> Rate:
    """Return the rows a second of copying the last run's events, which are those of event_log not in `copied`."""
    path = stack.directory / "copied.bin"
    new = "SELECT * FROM event_log WHERE position > (SELECT coalesce(max(position), 0) FROM copied)"
    stack.settle(server)
    rows = int(psql(server.url, "SELECT (SELECT count(*) FROM event_log) - (SELECT count(*) FROM copied)"))
    psql(server.url, f"\\copy ({new}) TO '{path}' (FORMAT binary)", "CHECKPOINT")
    clock = Clock({"PostgreSQL": stack.postgres_pid})
    seconds = psql_seconds(server.url, f"\\copy copied FROM '{path}' (FORMAT binary)")
    return Rate(events_a_second=rows / seconds, cores=clock.cores(seconds))
