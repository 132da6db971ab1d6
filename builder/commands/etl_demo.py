"""`probe-builder etl-demo`: what the hot list saves of the nightly ETL."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from builder.bigquery import make_client
from builder.etl_demo.demand import demand_of_service, made_up_demand
from builder.etl_demo.nights import SAMPLE_OPTIONS, build_all, compare, requests_of, today
from builder.etl_demo.report import show
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import progress
from warehouse.cli import DEFAULT_DIR, seed_command
from warehouse.sample.pings import PROJECT
from warehouse.sample.seeding import CATALOGUE, DATABASE
from warehouse.serving import served


def etl_demo_command(
    product: Annotated[str, typer.Option(help="fog or fenix")] = "fog",
    channel: Annotated[str, typer.Option(help="nightly, beta or release")] = "nightly",
    budget: Annotated[int, typer.Option(min=1, max=1_000, help="how many probes are hot")] = 10,
    data_dir: Annotated[Path, typer.Option(help="the sample pings; made up where there are none")] = DEFAULT_DIR,
    url: Annotated[
        str | None, typer.Option(help="a usage service to ask for the hot list; else views are made up")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="USAGE_SERVICE_TOKEN", help="its token, which may read")] = None,
) -> None:
    """Run the nightly ETL on sample pings, with all probes and with the hot list, and compare."""
    if sys.stderr.isatty():
        configure_logs("warning")  # what the progress bar says already
    if not (data_dir / DATABASE).exists():
        seed_command(data_dir)
    requests = requests_of(data_dir / CATALOGUE, product, channel, today())
    names = [request.probe for request in requests]
    demand = demand_of_service(url, token, product, budget) if url else made_up_demand(names, budget)
    with (
        served(data_dir / DATABASE) as address,
        closing(make_client(PROJECT, address, "US")) as client,
        progress("Building every probe", len(requests)) as report,
    ):
        built = build_all(client, requests, SAMPLE_OPTIONS, report)
    show(compare(built, demand))
