"""Measurement of reading an access log into events, beside a bare loop with its regular expression, in CPU time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.numbers import Row
from usage_service.imports.formats import access_log
from usage_service.imports.lines import NO_OPTIONS
from usage_service.imports.source import open_source

LINES, LEAST = 200_000, 50_000.0
VISITORS, AGENTS, PROBES, ASSETS = 5_000, 300, 5_000, 50


def measure_access_log(path: Path, runs: int) -> list[Row]:
    """Measure the lines a second that one core reads, events and all, and those of the bare loop."""
    path.write_text("\n".join(_line(number) for number in range(LINES)) + "\n", "utf-8")
    ours, bare = list[float](), list[float]()
    for _ in range(runs):
        bare.append(LINES / _seconds(lambda: _match_all(path)))
        ours.append(LINES / _seconds(lambda: _read_all(path)))
    what = f"access log of {LINES:,} lines, read into events on one core"
    return [
        Row(what, "lines/s", ours, "least", [LEAST] * runs, 1),
        Row(what, "lines/s", ours, "a bare loop with the regular expression", bare, 0.1),
    ]


def _line(number: int) -> str:
    """Write a line: a page of a probe in four of ten, an asset in four, the home page or one of its own in two."""
    drawn = random.Random(number)
    visitor = drawn.randrange(VISITORS)
    kind = drawn.random()
    if kind < 0.4:
        target = f"/fog/probe/probe_{drawn.randrange(PROBES)}/explore?app_id=nightly"
    elif kind < 0.8:
        target = f"/build/asset{drawn.randrange(ASSETS)}.js"
    else:
        target = "/" if kind < 0.9 else f"/page/{number}"
    day, second = divmod(number, 86_400)
    when = f"{day + 1:02}/Nov/2026:{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
    agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:{visitor % AGENTS}.0) Gecko/20100101 Firefox/{visitor % AGENTS}.0"
    return (
        f'10.{visitor % 7}.{visitor % 250}.{visitor // 250} - - [{when}] "GET {target} HTTP/1.1" 200 5120'
        f' "https://glam.telemetry.mozilla.org/" "{agent}"'
    )


def _match_all(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            match = access_log.LINE.match(line.rstrip("\n"))
            assert match
            match.groups()


def _read_all(path: Path) -> None:
    with open_source(path) as source:
        assert sum(1 for line in access_log.lines(source, NO_OPTIONS) if not line.refusal) == LINES


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
