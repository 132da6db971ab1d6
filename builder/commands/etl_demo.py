"""The command `probe-builder etl-demo`: what the hot list saves of the nightly ETL, as tables or as JSON."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

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
from usage_service.shared.bigquery.jobs import make_client
from usage_service.shared.known_names import find_unknown
from usage_service.shared.logs import configure_logs
from usage_service.shared.options import Token, given_address
from usage_service.shared.progress import progress
from usage_service.shared.table_layout import Column
from usage_service.shared.tables import Format, show_csv, show_json, show_table, tell
from usage_service.shared.unknown_names import UnknownNameError
from warehouse.cli import DEFAULT_DIR, seed_command
from warehouse.sample.pings import PROJECT
from warehouse.sample.populations import ANDROID, DESKTOP
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
        str | None,
        typer.Option(callback=given_address, help="a usage service to ask for the hot list; else views are made up"),
    ] = None,
    token: Token = None,
    price: Annotated[float, typer.Option(min=0, help="US dollars for reading a TiB")] = 6.25,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            show_default="table on a terminal, json in a pipe",
            help="how to print: json is one document with all of it, csv the nights",
        ),
    ] = None,
) -> None:
    """Run three nights of the ETL on sample pings: all probes, the hot list one by one, the hot list in one pass."""
    if sys.stderr.isatty():
        configure_logs("warning")  # what the progress bar says already
    if unknown := find_unknown({one.product: one.channels for one in (DESKTOP, ANDROID)}, product, channel):
        raise UnknownNameError(unknown.detail)
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
    _show(compare(built, in_one_pass, views), price, form)


def _show(comparison: Comparison, price: float, form: Format | None) -> None:
    """Print the comparison: tables on a terminal, JSON when piped."""
    chosen = form or ("table" if sys.stdout.isatty() else "json")
    if chosen == "json":
        show_json(comparison)
        return
    nights = _nights(comparison, price)
    if chosen == "csv":
        show_csv([one.name for one in nights], list(zip(*(one.cells for one in nights), strict=True)))
        return
    tell(f"The nightly ETL; views: {comparison.views_source}")
    show_table(nights)
    typer.echo()
    tell("A probe that is new today is there")
    show_table(_new_probe(comparison.new_probe))
    tell("Mozilla's own ETL goes forward a day at a time: the whole window takes it as many nights as it has days.")
    typer.echo()
    tell("What would be built on demand instead")
    show_table(_missed(comparison))
    if (more := len(comparison.missed) - SHOWN) > 0:
        tell(f"and {more} more")
    for built in comparison.failed:
        tell(f"not built: {built.probe}: {built.error}", color="yellow")


def _nights(comparison: Comparison, price: float) -> list[Column]:
    rows = [
        ("all probes", *_cells(comparison.all_probes, price)),
        ("hot list, one by one", *_cells(comparison.hot_list, price)),
        ("hot list, in one pass", *_cells(comparison.in_one_pass, price)),
        ("saved, one by one", *_saved(comparison.all_probes, comparison.hot_list)),
        ("saved, in one pass", *_saved(comparison.all_probes, comparison.in_one_pass)),
    ]
    names = ("night", "probes", "bytes read", "USD", "seconds", "rows", "views answered", "views missed")
    wide = [(*row, *[""] * (len(names) - len(row))) for row in rows]
    return [Column(name, cells, name != "night") for name, cells in zip(names, zip(*wide, strict=True), strict=True)]


def _cells(night: Night, price: float) -> tuple[str, ...]:
    dollars = f"{price * night.bytes / TIB:.2g}"
    before, after = (night.probes, night.bytes), (night.rows, night.views_answered, night.views_missed)
    return *(f"{count:,}" for count in before), dollars, f"{night.seconds:,.1f}", *(f"{count:,}" for count in after)


def _saved(whole: Night, hot: Night) -> tuple[str, ...]:
    read, sizes = (hot.bytes, whole.bytes), ((hot.seconds, whole.seconds), (hot.rows, whole.rows))
    pairs = ((hot.probes, whole.probes), read, read, *sizes)
    return tuple(f"{1 - part / all_of:.0%}" if all_of else "" for part, all_of in pairs)


def _new_probe(new: NewProbe) -> list[Column]:
    when = ("with a night of all probes", "on demand, whole window at once")
    return [
        Column("when", when),
        Column("after seconds", (f"{new.after_a_night:,.1f}", f"{new.on_demand:,.2f}"), is_number=True),
    ]


def _missed(comparison: Comparison) -> list[Column]:
    shown = comparison.missed[:SHOWN]
    return [
        Column("probe", [one.probe for one in shown]),
        Column("views", [f"{one.views:,}" for one in shown], is_number=True),
        Column("seconds", [f"{one.seconds:.2f}" for one in shown], is_number=True),
        Column("bytes read", [f"{one.bytes:,}" for one in shown], is_number=True),
    ]
