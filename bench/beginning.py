"""Measurement of a database from its first event on: what sessions plan while tables are empty has to hold later."""

from __future__ import annotations

from typing import NamedTuple

from bench.numbers import Load, Row, cores, rates
from bench.stack import Server, Stack, psql

WARM_EVENTS_SECONDS = 3.0


class Phase(NamedTuple):
    """A part of the load: so many events a request over so many connections."""

    what: str
    events: int
    connections: int


PHASES = (
    Phase("singles at first", 1, 32),
    Phase("then 100 a request", 100, 16),
    Phase("then singles again", 1, 32),
)


def measure_beginning(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure an empty database and a warm one in turns, phase by phase, each on a server that has just started."""
    warm = stack.database("beginning_warm")
    with stack.serving(warm) as server:
        for phase in PHASES:
            _load(stack, server, phase, WARM_EVENTS_SECONDS, "warming")
    psql(warm, "VACUUM ANALYZE")
    loads: dict[str, list[list[Load]]] = {"empty": [], "warm": []}
    for run in range(runs):
        for state, url in (("empty", stack.database(f"beginning_{run}")), ("warm", warm)):
            with stack.serving(url) as server:
                loads[state].append([_load(stack, server, phase, seconds, f"{state} {run}") for phase in PHASES])
    return [_row(number, phase, loads) for number, phase in enumerate(PHASES)]


def _load(stack: Stack, server: Server, phase: Phase, seconds: float, seed: str) -> Load:
    return stack.load(
        server, connections=phase.connections, events=phase.events, seconds=seconds, seed=f"{phase.what} {seed}"
    )


def _row(number: int, phase: Phase, loads: dict[str, list[list[Load]]]) -> Row:
    empty, warm = ([run[number] for run in loads[state]] for state in ("empty", "warm"))
    note = f"{cores(empty)}; on the warm one: {cores(warm)}"
    return Row(f"an empty database, {phase.what}", "events/s", rates(empty), "a warm one", rates(warm), 0.8, note)
