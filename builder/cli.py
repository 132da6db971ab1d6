"""The `probe-builder` command."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.console import Console

from builder.dead_letters import QUEUED, FailedBuild, failed_builds, retry_builds
from builder.running import run_builder, warehouse_computation
from builder.settings import MOST_AT_ONCE, BuilderSettings, WarehouseSettings
from builder.warehouse.cli import app as warehouse_app
from usage_service.shared.logs import configure_logs
from usage_service.shared.schema import DatabaseAwayError, SchemaMismatchError
from usage_service.shared.settings import DatabaseSettings, LogSettings, SettingsError, check_names, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(warehouse_app, name="warehouse")


@app.callback()
def prepare() -> None:
    """Computes missing probes on BigQuery and stores their rows."""
    settings = load_settings(LogSettings)
    configure_logs(settings.log_level)


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
    if not asyncio.run(run_builder(settings, warehouse_computation(settings))):
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


def _line(build: FailedBuild) -> str:
    where = f"{build.product}/{build.channel}/{build.probe}"
    why = " ".join(f"{build.code}: {build.message}".split())
    return f"{build.build_id} {where} {build.finished_at:%Y-%m-%dT%H:%M:%SZ} attempts={build.attempt} {why}"


def main() -> None:
    """Runs the command; what the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except (DatabaseAwayError, SchemaMismatchError, SettingsError) as error:
        Console(stderr=True).print(f"probe-builder: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
