"""The `probe-builder` command."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import typer
import uvloop
from rich.console import Console

from builder.bigquery import make_client
from builder.dead_letters import QUEUED, FailedBuild, failed_builds, retry_builds
from builder.demand import demand_of_service, made_up_demand
from builder.errors import BuildError
from builder.etl_demo import SAMPLE_OPTIONS, build_all, compare, requests_of, today
from builder.etl_report import show
from builder.running import open_warehouse, run_builder
from builder.settings import MOST_AT_ONCE, BuilderSettings, WarehouseSettings
from builder.warehouse.cli import DEFAULT_DIR, seed_command
from builder.warehouse.cli import app as warehouse_app
from builder.warehouse.sample import PROJECT
from builder.warehouse.seeding import CATALOGUE, DATABASE
from builder.warehouse.serving import served
from usage_service.shared.exporting import exported_spans
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import progress
from usage_service.shared.schema import DatabaseAwayError, SchemaMismatchError
from usage_service.shared.settings import DatabaseSettings, LogSettings, SettingsError, check_names, load_settings
from usage_service.shared.settings_reference import settings_reference

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(warehouse_app, name="warehouse")


SETTINGS: dict[str, type[msgspec.Struct]] = {
    "probe-builder run": BuilderSettings,
    "probe-builder warehouse": WarehouseSettings,
}


@app.callback()
def prepare() -> None:
    """Computes missing probes on BigQuery and stores their rows."""
    settings = load_settings(LogSettings)
    configure_logs(settings.log_level, settings.log_format)


@app.command("settings")
def settings_command() -> None:
    """Print the reference of the builder's settings, as it is in docs/guides/operating.md."""
    sys.stdout.write(settings_reference(SETTINGS))


@app.command("run")
def run_command(
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_AT_ONCE, help="builds at a time, instead of PROBE_BUILDER_CONCURRENCY"),
    ] = None,
) -> None:
    """Build what is asked for until SIGTERM; any number of builders may run."""
    check_names(os.environ, "PROBE_BUILDER_", BuilderSettings, WarehouseSettings)
    settings = load_settings(BuilderSettings)
    if concurrency is not None:
        settings = msgspec.structs.replace(settings, concurrency=concurrency)
    with exported_spans("probe-builder"):
        healthy = uvloop.run(run_builder(settings, open_warehouse(settings)))
    if not healthy:
        raise typer.Exit(1)


@app.command("failed")
def failed_command() -> None:
    """List the builds that failed for good and were not asked for again since: a line each, the newest first."""
    for build in asyncio.run(failed_builds(load_settings(DatabaseSettings).database_url)):
        print(_line(build))


@app.command("retry")
def retry_command(
    build_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="BUILD_ID...", help="as `failed` lists them")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all that `failed` lists")] = False,
) -> None:
    """Queue failed builds again; exit code 1 and a line each for those that cannot be."""
    if bool(build_ids) == every:
        raise typer.BadParameter("name builds, or give --all")
    url = load_settings(DatabaseSettings).database_url
    chosen = [build.build_id for build in asyncio.run(failed_builds(url))] if every else build_ids or []
    outcomes = asyncio.run(retry_builds(url, chosen))
    for build_id, outcome in outcomes.items():
        print(f"{build_id} {outcome}", file=sys.stdout if outcome == QUEUED else sys.stderr)
    if any(outcome != QUEUED for outcome in outcomes.values()):
        raise typer.Exit(1)


@app.command("etl-demo")
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


def _line(build: FailedBuild) -> str:
    where = f"{build.product}/{build.channel}/{build.probe}"
    why = " ".join(f"{build.code}: {build.message}".split())
    return f"{build.build_id} {where} {build.finished_at:%Y-%m-%dT%H:%M:%SZ} attempts={build.attempt} {why}"


def main() -> None:
    """Runs the command; what the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except (BuildError, DatabaseAwayError, SchemaMismatchError, SettingsError) as error:
        Console(stderr=True).print(f"probe-builder: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
