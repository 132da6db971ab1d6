"""The `probe-builder` command."""

from __future__ import annotations

import asyncio
import os
import sys

import typer
from rich.console import Console

from builder.running import run_builder
from builder.settings import BuilderSettings, WarehouseSettings
from builder.warehouse.cli import app as warehouse_app
from usage_service.shared.logs import configure_logs
from usage_service.shared.schema import DatabaseAwayError, SchemaMismatchError
from usage_service.shared.settings import LogSettings, SettingsError, check_names, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(warehouse_app, name="warehouse")


@app.callback()
def prepare() -> None:
    """Computes missing probes on BigQuery and stores their rows."""
    settings = load_settings(LogSettings)
    configure_logs(settings.log_level)


@app.command("run")
def run_command() -> None:
    """Build what is asked for until SIGTERM."""
    check_names(os.environ, "PROBE_BUILDER_", BuilderSettings, WarehouseSettings)
    settings = load_settings(BuilderSettings)
    if not asyncio.run(run_builder(settings)):
        raise typer.Exit(1)


def main() -> None:
    """Runs the command; what the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except (DatabaseAwayError, SchemaMismatchError, SettingsError) as error:
        Console(stderr=True).print(f"probe-builder: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
