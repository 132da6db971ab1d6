"""`usage-service popular`: the probes that are viewed."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.asking import ask_rows
from usage_service.shared.options import DEFAULT_URL, Channel, Product, Since, Token, Until, Url
from usage_service.shared.tables import FormatOption, show
from usage_service.stats.popularity import Order

COLUMNS = ("product", "probe", "views", "visitors", "trend", "views_before", "found", "missing")


def popular_command(
    product: Product = None,
    channel: Channel = None,
    window: Annotated[str | None, typer.Option(help="so many days up to now, or to --until", show_default="7d")] = None,
    since: Since = None,
    until: Until = None,
    order: Annotated[Order, typer.Option(help="what comes first")] = "most",
    bots: Annotated[bool, typer.Option("--bots", help="count what bots viewed, too")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 50,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the probes that are viewed most, least (or never), or more than before."""
    answer = ask_rows(
        url, token, "/v1/popularity", "probes",
        product=product, channel=channel, window=window, since=since, until=until, order=order,
        bots="true" if bots else None, limit=limit,
    )  # fmt: skip
    show(answer["probes"], COLUMNS, form)
