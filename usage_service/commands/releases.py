"""`usage-service releases`: how releases change the number of views."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.options import DEFAULT_URL, Product, Token, Url
from usage_service.commands.remote import ask
from usage_service.commands.tables import FormatOption, show

COLUMNS = (
    "product", "channel", "version", "published_at", "views_before", "views_after", "ratio", "low", "high", "p_value",
    "effect",
)  # fmt: skip


def releases_command(
    product: Product = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="days before and after that are compared")] = 7,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show views before and after each release: their ratio with a confidence interval, and how likely chance is."""
    answer = ask(url, token, "/v1/releases/impact", product=product, days=days)
    show(answer["releases"], COLUMNS, form)
