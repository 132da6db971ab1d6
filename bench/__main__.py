"""Command `python -m bench [section ...]`: measures, prints the tables and writes them to bench/RESULTS.md."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog
from rich.console import Console

from bench.beginning import measure_beginning
from bench.building import measure_building
from bench.folding import measure_folding
from bench.hotlist import measure_hotlist
from bench.importing import measure_importing
from bench.large import measure_large
from bench.memory import measure_memory
from bench.mirror import measure_mirror
from bench.nights import measure_nights
from bench.numbers import Row
from bench.page import measure_page
from bench.pages import measure_pages
from bench.reading import measure_reading
from bench.rebuilding import measure_rebuilding
from bench.report import in_words, table, write_sections
from bench.stack import BenchError, Stack, open_stack
from bench.steps import measure_steps
from bench.warehouse import measure_warehouse
from bench.writing import measure_batches, measure_requests, measure_sustained

Measure = Callable[[Stack, int, float], Iterable[Row]]


class MeasureLog(Protocol):
    """A measurement with a log of so many events."""

    def __call__(self, stack: Stack, runs: int, seconds: float, events: int) -> Iterable[Row]: ...


SECTIONS: dict[str, Measure] = {
    "requests": measure_requests,
    "batches": measure_batches,
    "sustained": measure_sustained,
    "beginning": measure_beginning,
    "steps": measure_steps,
    "importing": measure_importing,
    "reading": measure_reading,
    "memory": measure_memory,
    "folding": measure_folding,
    "building": measure_building,
    "warehouse": measure_warehouse,
}
# With a log made of so many events, unless --events says otherwise.
LOGS: dict[str, tuple[MeasureLog, int]] = {
    "rebuilding": (measure_rebuilding, 1_000_000),
    "mirror": (measure_mirror, 1_000_000),
    "pages": (measure_pages, 1_000_000),
    "page": (measure_page, 10_000_000),
    "hotlist": (measure_hotlist, 10_000_000),
    "large": (measure_large, 50_000_000),
}
NIGHTS = "nights"
BY_DEFAULT = [*SECTIONS, "rebuilding", "mirror", "pages", "page", "hotlist", NIGHTS]


def main() -> None:
    options = _parse()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    known = dict(SECTIONS)
    for name, (measure, events) in LOGS.items():
        known[name] = partial(measure, events=options.events or events)
    known[NIGHTS] = partial(measure_nights, pings=options.pings, probes=options.probes, gigabytes=options.gigabytes)
    failed: dict[str, BenchError] = {}
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name in options.sections or BY_DEFAULT:
        try:
            with open_stack() as stack:  # a new one for each section, so that none finds what another left behind
                settings = stack.settings()
                rows = list(_told(console, known[name](stack, options.runs, options.seconds)))
        except BenchError as error:
            failed[name] = error
            continue
        write_sections({name: rows}, settings)
        console.print(f"\n{settings}\n{table(rows)}")
    if failed:
        raise SystemExit("\n".join(f"bench: {name}: {error}" for name, error in failed.items()))


def _told(console: Console, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows, and print each when it is there: a section can take an hour, and may be stopped in it."""
    for row in rows:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {in_words(row)}")
        yield row


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, *LOGS, NIGHTS, []], metavar="section",
                        help=f"{', '.join(BY_DEFAULT)} (all by default), large")  # fmt: skip
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--events", type=int, default=0, help=f"in the logs of {', '.join(LOGS)}")
    parser.add_argument("--pings", type=int, default=500_000, help="that the probes of nights are built from")
    parser.add_argument("--probes", type=int, nargs="+", default=[200], help="on the lists of nights")
    parser.add_argument("--gigabytes", type=int, default=4, help="of memory that the warehouse of nights has")
    return parser.parse_args()


if __name__ == "__main__":
    main()
