"""`usage-service reference`: pages made from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import typer

from usage_service.event_reference import events_page
from usage_service.imports.reference_page import imports_page
from usage_service.shared.settings import ClientSettings, ServerSettings, UpSettings
from usage_service.shared.settings_reference import settings_reference
from usage_service.shared.trace_export import TracingSettings
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.document import openapi_document
from usage_service.web.openapi.reference_page import markdown_page

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "usage-service serve": ServerSettings,
    "usage-service up": UpSettings,
    "Commands that ask a service": ClientSettings,
    "Traces, of usage-service serve and probe-builder run": TracingSettings,
}
PAGES: dict[str, Callable[[], str]] = {
    "events": events_page,
    "imports": imports_page,
    "api": lambda: markdown_page(openapi_document(ROUTES)),
    "settings": lambda: settings_reference(SETTINGS),
}


def reference_command(
    page: Annotated[
        Literal["events", "imports", "api", "settings"],
        typer.Argument(
            help="docs/events.md, docs/imports.md, docs/api.md, or the service's part of docs/guides/operating.md"
        ),
    ] = "events",
) -> None:
    """Print the reference of event types, of files to import, of the HTTP API or of settings, as it is in docs/."""
    sys.stdout.write(PAGES[page]())
