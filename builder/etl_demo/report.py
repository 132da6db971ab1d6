"""The comparison of two nights on standard output: tables on a terminal, JSON when piped."""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console
from rich.table import Table

from builder.etl_demo.nights import Comparison, Night

SHOWN = 10


def show(comparison: Comparison) -> None:
    """Prints what each night costs and answers, and what the hot list misses."""
    if not sys.stdout.isatty():
        text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        sys.stdout.write(text.decode() + "\n")
        return
    console = Console(highlight=False)
    console.print(_nights(comparison))
    console.print(_missed(comparison))
    for built in comparison.failed:
        console.print(f"not built: {built.probe}: {built.error}", style="yellow", markup=False)


def _nights(comparison: Comparison) -> Table:
    table = Table(title=f"The nightly ETL; views: {comparison.demand}", title_justify="left")
    for name in ("", "probes", "bytes read", "seconds", "rows", "views answered", "views missed"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("all probes", *_cells(comparison.all_probes))
    table.add_row("hot list", *_cells(comparison.hot_list))
    table.add_row("saved", *_saved(comparison.all_probes, comparison.hot_list))
    return table


def _cells(night: Night) -> tuple[str, ...]:
    counts = (night.probes, night.bytes, round(night.seconds, 1), night.rows, night.views_answered, night.views_missed)
    return tuple(f"{count:,}" for count in counts)


def _saved(whole: Night, hot: Night) -> tuple[str, ...]:
    pairs = ((hot.probes, whole.probes), (hot.bytes, whole.bytes), (hot.seconds, whole.seconds), (hot.rows, whole.rows))
    return tuple(f"{1 - part / all_of:.0%}" if all_of else "" for part, all_of in pairs)


def _missed(comparison: Comparison) -> Table:
    more = len(comparison.missed) - SHOWN
    caption = f"and {more} more" if more > 0 else None
    table = Table(title="What would be built on demand instead", title_justify="left", caption=caption)
    for name in ("probe", "views", "seconds", "bytes read"):
        table.add_column(name, justify="left" if name == "probe" else "right")
    for missed in comparison.missed[:SHOWN]:
        table.add_row(missed.probe, f"{missed.views:,}", f"{missed.seconds:.2f}", f"{missed.bytes:,}")
    return table
