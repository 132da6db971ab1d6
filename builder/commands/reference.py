"""`probe-builder reference`: the builder's part of pages that are made from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import typer
from prometheus_client import generate_latest

from builder.metrics import BuilderMetrics
from builder.settings import BuilderSettings, WarehouseSettings
from usage_service.shared.commands_reference import commands_reference
from usage_service.shared.metrics_reference import metrics_reference
from usage_service.shared.settings_reference import settings_reference

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "probe-builder run": BuilderSettings,
    "probe-builder warehouse": WarehouseSettings,
}
PAGES: dict[str, Callable[[], str]] = {
    "commands": lambda: commands_reference("probe-builder", "builder.cli"),
    "settings": lambda: settings_reference(SETTINGS),
    "metrics": lambda: metrics_reference("Metrics of a builder", generate_latest(BuilderMetrics().registry).decode()),
}


def reference_command(
    page: Annotated[
        Literal["commands", "settings", "metrics"], typer.Argument(help="the page of docs/ that it is the end of")
    ],
) -> None:
    """Print the builder's part of a page of reference, which follows the service's."""
    sys.stdout.write("\n" + PAGES[page]())
