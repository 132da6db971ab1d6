"""Measurements of recording events: one a request, and a hundred a request."""

from __future__ import annotations

from contextlib import ExitStack

from bench.numbers import Load, Row, cores, latencies, rates
from bench.peers import insert_rate, open_recorder
from bench.stack import Server, Stack, psql, psql_seconds

CONNECTIONS = 32
BATCH_CONNECTIONS = 16
BATCH = 100


def measure_requests(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure one event a request, the variants taking turns."""
    recorder = open_recorder(stack.database("peer_requests"))
    loads: dict[str | None, list[Load]] = {None: [], "null": [], "single": []}
    theirs: list[float] = []
    with ExitStack() as exits:
        servers = {
            mode: exits.enter_context(stack.serving(stack.database(f"requests_{mode or 'real'}"), mode))
            for mode in loads
        }
        for run in range(runs):
            for mode, server in servers.items():
                seed = f"requests {mode} {run}"
                loads[mode].append(stack.load(server, connections=CONNECTIONS, events=1, seconds=seconds, seed=seed))
            if recorder:
                theirs.append(insert_rate(recorder, 1, seconds, f"requests peer {run}"))
    real = loads[None]
    what = f"one event a request, {CONNECTIONS} connections"
    note = f"{latencies(real)}; {cores(real)}"
    null = Row(what, "events/s", rates(real), "the same without the database", rates(loads["null"]), 0.75, note)
    single = Row(what, "events/s", rates(real), "a commit for each request", rates(loads["single"]), 3)
    null = null._replace(note=f"{note}; without the database: {latencies(loads['null'])}; {cores(loads['null'])}")
    peer = Row(what, "events/s", rates(real), "eventsourcing, insert_events of 1", theirs, 8)
    return [null, single, peer]


def measure_batches(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure a hundred events a request, and copying the rows of each run."""
    recorder = open_recorder(stack.database("peer_batches"))
    loads: list[Load] = []
    copies: list[float] = []
    theirs: list[float] = []
    with stack.serving(stack.database("batches")) as server:
        psql(server.url, "CREATE TABLE copied (LIKE event_log INCLUDING ALL)")
        for run in range(runs):
            seed = f"batches {run}"
            loads.append(stack.load(server, connections=BATCH_CONNECTIONS, events=BATCH, seconds=seconds, seed=seed))
            copies.append(_copy_rate(stack, server))
            if recorder:
                theirs.append(insert_rate(recorder, BATCH, seconds, f"batches peer {run}"))
    what = f"{BATCH} events a request, {BATCH_CONNECTIONS} connections"
    note = f"{latencies(loads)}; {cores(loads)}"
    return [
        Row(what, "events/s", rates(loads), "COPY of the rows into a table with the same indexes", copies, 0.6, note),
        Row(what, "events/s", rates(loads), f"eventsourcing, insert_events of {BATCH}", theirs, 4),
    ]


def _copy_rate(stack: Stack, server: Server) -> float:
    """Return the rows a second of copying the last run's events, which are those of event_log not in `copied`."""
    path = stack.directory / "copied.bin"
    new = "SELECT * FROM event_log WHERE position > (SELECT coalesce(max(position), 0) FROM copied)"
    stack.settle(server)
    rows = int(psql(server.url, "SELECT (SELECT count(*) FROM event_log) - (SELECT count(*) FROM copied)"))
    psql(server.url, f"\\copy ({new}) TO '{path}' (FORMAT binary)", "CHECKPOINT")
    return rows / psql_seconds(server.url, f"\\copy copied FROM '{path}' (FORMAT binary)")
