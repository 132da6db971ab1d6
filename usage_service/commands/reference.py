"""`usage-service reference`: pages made from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import typer

from usage_service.event_reference import events_page
from usage_service.imports.reference_page import imports_page
from usage_service.shared.commands_reference import HEAD as COMMANDS_HEAD
from usage_service.shared.commands_reference import commands_reference
from usage_service.shared.exit_codes import exit_codes_page
from usage_service.shared.metrics_reference import HEAD as METRICS_HEAD
from usage_service.shared.metrics_reference import metrics_reference
from usage_service.shared.schema_reference import schema_reference
from usage_service.shared.settings import ClientSettings, MirrorSettings, ServerSettings, UpSettings
from usage_service.shared.settings_reference import settings_reference
from usage_service.shared.trace_export import TracingSettings
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.document import openapi_document
from usage_service.web.openapi.reference_page import markdown_page
from usage_service.web.openapi.scopes_page import scopes_page

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "usage-service serve": ServerSettings,
    "usage-service mirror": MirrorSettings,
    "usage-service up": UpSettings,
    "Commands that ask a service": ClientSettings,
    "Traces, of usage-service serve and probe-builder run": TracingSettings,
}
SETTINGS_HEAD = """# Settings

Environment variables, checked at start: what is missing, out of range or misspelt is named, with the fix. Made from the
code by `usage-service reference settings` and `probe-builder reference settings`; a test keeps it true.

"""
PAGES: dict[str, Callable[[], str]] = {
    "events": events_page,
    "imports": imports_page,
    "api": lambda: markdown_page(openapi_document(ROUTES)),
    "exit-codes": exit_codes_page,
    "commands": lambda: f"{COMMANDS_HEAD}\n{commands_reference('usage-service', 'usage_service.cli')}",
    "metrics": lambda: f"{METRICS_HEAD}\n{metrics_reference('Metrics of a server', sys.stdin.read())}",
    "settings": lambda: SETTINGS_HEAD + settings_reference(SETTINGS),
    "schema": schema_reference,
    "scopes": lambda: scopes_page(ROUTES),
}


def reference_command(
    page: Annotated[
        Literal["events", "imports", "api", "scopes", "commands", "exit-codes", "settings", "metrics", "schema"],
        typer.Argument(help="the page of this name in docs/"),
    ] = "events",
) -> None:
    """Print a page of reference as it is in docs/, made from the code; of some pages the builder prints the rest.

    `metrics` reads from its standard input what a running server exposes at /metrics.
    """
    sys.stdout.write(PAGES[page]())
