"""Measurement of memory: how much more the server holds at its peak than at its start."""

from __future__ import annotations

from pathlib import Path

from bench.numbers import Row
from bench.reading import read_log
from bench.stack import Stack

# Connections and events a request: many small ones, many batches, the largest bodies there are.
LOADS = ((32, 1), (16, 100), (8, 1_000))
MOST_MEGABYTES = 100.0


def measure_memory(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure a new server in every run, under each load and a read of the whole log."""
    grown = [_growth(stack, run, seconds) for run in range(min(runs, 3))]
    allowed = [MOST_MEGABYTES] * len(grown)
    row = Row(
        "resident memory of the server at its peak, over that at its start", "MB", grown, "allowed", allowed, 1,
        "32 connections of 1 event, 16 of 100, 8 of 1,000, then the whole log read as Arrow", most=True,
    )  # fmt: skip
    return [row]


def _growth(stack: Stack, run: int, seconds: float) -> float:
    with stack.serving(stack.database(f"memory_{run}")) as server:
        at_start = peak_megabytes(server.pid)
        for connections, events in LOADS:
            stack.load(server, connections=connections, events=events, seconds=seconds, seed=f"memory {run} {events}")
        stack.settle(server)
        read_log(server)
        return peak_megabytes(server.pid) - at_start


def peak_megabytes(pid: int) -> float:
    """Return the peak of a process's resident memory (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024
