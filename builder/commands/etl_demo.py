"""The command `probe-builder etl-demo`: what the hot list saves of the nightly ETL, as tables or as JSON."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from builder.bigquery import make_client
from builder.etl_demo.nights import (
    SAMPLE_OPTIONS,
    Comparison,
    NewProbe,
    Night,
    build_all,
    build_in_one_pass,
    compare,
    requests_of,
    today,
)
from builder.etl_demo.views import made_up_views, views_of_service
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import progress
from warehouse.cli import DEFAULT_DIR, seed_command
from warehouse.sample.pings import PROJECT
from warehouse.sample.seeding import CATALOGUE, DATABASE
from warehouse.serving import served

TIB = 2**40
SHOWN = 10  # of the probes that the hot list misses


def etl_demo_command(
    product: Annotated[str, typer.Option(help="fog or fenix")] = "fog",
    channel: Annotated[str, typer.Option(help="nightly, beta or release")] = "nightly",
    budget: Annotated[int, typer.Option(min=1, max=1_000, help="how many probes are hot")] = 10,
    data_dir: Annotated[Path, typer.Option(help="the sample pings; made up where there are none")] = DEFAULT_DIR,
    url: Annotated[
        str | None, typer.Option(help="a usage service to ask for the hot list; else views are made up")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", help="its token, which may read")] = None,
    price: Annotated[float, typer.Option(min=0, help="US dollars for reading a TiB")] = 6.25,
) -> None:
    """Run three nights of the ETL on sample pings: all probes, the hot list one by one, the hot list in one pass."""
    if sys.stderr.isatty():
        configure_logs("warning")  # what the progress bar says already
    if not (data_dir / DATABASE).exists():
        seed_command(data_dir)
    requests = requests_of(data_dir / CATALOGUE, product, channel, today())
    names = [request.probe for request in requests]
    views = views_of_service(url, token, product, budget) if url else made_up_views(names, budget)
    with (
        served(data_dir / DATABASE) as address,
        closing(make_client(PROJECT, address, "US")) as client,
    ):
        with progress("Building every probe", len(requests)) as report:
            built = build_all(client, requests, SAMPLE_OPTIONS, report)
        hot = [request for request in requests if request.probe in views.hot]
        with progress("Building the hot list in one pass", len(hot)) as report:
            in_one_pass = build_in_one_pass(client, hot, SAMPLE_OPTIONS, views, report)
    _show(compare(built, in_one_pass, views), price)


def _show(comparison: Comparison, price: float) -> None:
    """Print the comparison: tables on a terminal, JSON when piped."""
    if not sys.stdout.isatty():
        text = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        sys.stdout.write(text.decode() + "\n")
        return
    console = Console(highlight=False)
    console.print(_nights(comparison, price))
    console.print(_new_probe(comparison.new_probe))
    console.print(_missed(comparison))
    for built in comparison.failed:
        console.print(f"not built: {built.probe}: {built.error}", style="yellow", markup=False)


def _nights(comparison: Comparison, price: float) -> Table:
    table = Table(title=f"The nightly ETL; views: {comparison.views_source}", title_justify="left")
    for name in ("", "probes", "bytes read", "USD", "seconds", "rows", "views answered", "views missed"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("all probes", *_cells(comparison.all_probes, price))
    table.add_row("hot list, one by one", *_cells(comparison.hot_list, price))
    table.add_row("hot list, in one pass", *_cells(comparison.in_one_pass, price))
    table.add_row("saved, one by one", *_saved(comparison.all_probes, comparison.hot_list))
    table.add_row("saved, in one pass", *_saved(comparison.all_probes, comparison.in_one_pass))
    return table


def _cells(night: Night, price: float) -> tuple[str, ...]:
    dollars = f"{price * night.bytes / TIB:.2g}"
    before, after = (night.probes, night.bytes), (night.rows, night.views_answered, night.views_missed)
    return *(f"{count:,}" for count in before), dollars, f"{night.seconds:,.1f}", *(f"{count:,}" for count in after)


def _saved(whole: Night, hot: Night) -> tuple[str, ...]:
    read, sizes = (hot.bytes, whole.bytes), ((hot.seconds, whole.seconds), (hot.rows, whole.rows))
    pairs = ((hot.probes, whole.probes), read, read, *sizes)
    return tuple(f"{1 - part / all_of:.0%}" if all_of else "" for part, all_of in pairs)


def _new_probe(new: NewProbe) -> Table:
    caption = "Mozilla's own ETL goes forward a day at a time: the whole window takes it as many nights as it has days."
    table = Table(title="A probe that is new today is there", title_justify="left", caption=caption)
    for name in ("", "after seconds"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("with a night of all probes", f"{new.after_a_night:,.1f}")
    table.add_row("on demand, whole window at once", f"{new.on_demand:,.2f}")
    return table


def _missed(comparison: Comparison) -> Table:
    more = len(comparison.missed) - SHOWN
    caption = f"and {more} more" if more > 0 else None
    table = Table(title="What would be built on demand instead", title_justify="left", caption=caption)
    for name in ("probe", "views", "seconds", "bytes read"):
        table.add_column(name, justify="left" if name == "probe" else "right")
    for missed in comparison.missed[:SHOWN]:
        table.add_row(missed.probe, f"{missed.views:,}", f"{missed.seconds:.2f}", f"{missed.bytes:,}")
    return table
