"""`usage-service reference`: pages made from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from usage_service.reference import events_page
from usage_service.web.api_pages import markdown_page
from usage_service.web.openapi import openapi_document
from usage_service.web.routes import ROUTES

PAGES: dict[str, Callable[[], str]] = {
    "events": events_page,
    "api": lambda: markdown_page(openapi_document(ROUTES)),
}


def reference_command(
    page: Annotated[Literal["events", "api"], typer.Argument(help="docs/events.md or docs/api.md")] = "events",
) -> None:
    """Print the reference of event types or of the HTTP API, as it is in docs/."""
    sys.stdout.write(PAGES[page]())
