"""Measurement of reading the whole log."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from bench.download import Download
from bench.numbers import Row
from bench.peers.event_recorder import insert_events, open_recorder, read_rate
from bench.stack import ROOT, BenchError, Server, Stack, fill, psql, psql_seconds
from usage_service.local.owned_process import owned_command

EVENTS = 500_000
PEER_EVENTS = 50_000


def measure_reading(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure reading all events as Arrow, by PostgreSQL's COPY and by the peer; `seconds` is not used."""
    recorder = open_recorder(stack.database("peer_reading"))
    if recorder:
        insert_events(recorder, PEER_EVENTS, "reading peer")
    ours, copies, theirs = list[float](), list[float](), list[float]()
    with stack.serving(stack.database("reading")) as server:
        fill(server.url, 1, EVENTS)
        psql(server.url, "VACUUM ANALYZE event_log")
        stack.settle(server)
        for _ in range(runs):
            ours.append(EVENTS / read_log(server).seconds)
            copies.append(EVENTS / psql_seconds(server.url, r"\copy event_log TO '/dev/null' (FORMAT binary)"))
            if recorder:
                theirs.append(read_rate(recorder, PEER_EVENTS))
    what = f"read all of {EVENTS:,} events, Arrow"
    return [
        Row(what, "events/s", ours, "COPY event_log TO STDOUT (FORMAT binary)", copies, 0.5),
        Row(what, "events/s", ours, "eventsourcing, select_notifications", theirs, 4),
    ]


def read_log(server: Server) -> Download:
    """Read the log over HTTP in a process of its own, and check that the answer holds all of it."""
    command = owned_command([sys.executable, "-m", "bench.download", str(server.port)])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=180, check=False)
    if done.returncode:
        raise BenchError(f"the download failed:\n{done.stderr.decode()[-2000:]}")
    downloaded = msgspec.json.decode(done.stdout, type=Download)
    held = int(psql(server.url, "SELECT count(*) FROM event_log"))
    if downloaded.events != held:
        raise BenchError(f"{downloaded.events} events came, the log holds {held}")
    return downloaded
