"""Report of the measurements: bench/RESULTS.md, a section for each part of the bench."""

from __future__ import annotations

import os
import platform
import re
import statistics
import timeit
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.numbers import Row

PATH = Path(__file__).with_name("RESULTS.md")
TITLE = """# Measured

Written by `make bench` (`python -m bench`). Medians of the runs, least and most in brackets. What is compared was
measured in turns, and a ratio is the median of the ratios of neighbours. Requests come over HTTP from a process of
its own. Machines that are shared have slow hours: what Python itself did in that hour says how slow.
"""
TABLE = """| what | measured | held against | measured | ratio | to reach | reached |
|---|---|---|---|---|---|---|
"""
ADDITIONS = 2_000_000
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write_sections(sections: Mapping[str, Sequence[Row]], settings: str) -> None:
    """Replace these sections of the report, and keep the others."""
    kept = dict(SECTION.findall(PATH.read_text("utf-8"))) if PATH.exists() else {}
    written = {name: f"\n{machine()}; {settings}.\n\n{table(rows)}\n" for name, rows in sections.items()}
    page = TITLE + "".join(f"\n## {name}\n{text.rstrip()}\n" for name, text in (kept | written).items())
    PATH.write_text(page, "utf-8")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table, and below it the remarks on each."""
    lines = "\n".join(_line(row) for row in rows)
    notes = "".join(f"\n- {row.what}: {row.note}" for row in rows if row.note)
    return TABLE + lines + ("\n" + notes if notes else "")


def in_words(row: Row) -> str:
    """Return a row as one line of text."""
    note = f" ({row.note})" if row.note else ""
    return f"{row.what}: {_spread(row.ours, '{:,.1f}')} {row.unit}{note}"


def _line(row: Row) -> str:
    ours = f"{_spread(row.ours, '{:,.0f}')} {row.unit}"
    bound = "shown beside it" if row.reach is None else f"{'at most' if row.most else 'at least'} {row.reach:g}"
    if not row.theirs:
        return f"| {row.what} | {ours} | {row.against} | not installed | | {bound} | |"
    reached = "" if row.reach is None else "yes" if row.reached else "**no**"
    return (
        f"| {row.what} | {ours} | {row.against} | {_spread(row.theirs, '{:,.0f}')} {row.unit} "
        f"| {_spread(row.ratios, '{:.2f}')} | {bound} | {reached} |"
    )


def _spread(values: Sequence[float], form: str) -> str:
    least, most = form.format(min(values)), form.format(max(values))
    return form.format(statistics.median(values)) + ("" if least == most else f" ({least}-{most})")


def machine() -> str:
    """Return in words when, and on what, something is measured."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; "
        f"Python {platform.python_version()}, {_millions_a_second():.0f} million additions a second"
    )


def _millions_a_second() -> float:
    """Return the millions of numbers that Python adds up in a second now, the best of a few times."""
    return ADDITIONS / 1e6 / min(timeit.repeat(_add_up, number=1, repeat=5))


def _add_up() -> None:
    total = 0
    for number in range(ADDITIONS):
        total += number


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
