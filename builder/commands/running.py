"""The command `probe-builder run`."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec
import typer
import uvloop

from builder.running import open_warehouse, run_builder
from builder.settings import MOST_AT_ONCE, BuilderSettings, WarehouseSettings
from usage_service.shared.settings import check_names, load_settings
from usage_service.shared.trace_export import exported_spans


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
