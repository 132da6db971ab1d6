"""`usage-service popular`: the probes that are viewed."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.options import DEFAULT_URL, Channel, Product, Token, Until, Url
from usage_service.commands.tables import FormatOption, show
from usage_service.shared.remote import ask
from usage_service.stats.popularity import Order

COLUMNS = ("product", "probe", "views", "visitors", "found", "missing", "views_before", "trend")


def popular_command(
    product: Product = None,
    channel: Channel = None,
    window: Annotated[str | None, typer.Option(help="so many days up to now, or to --until", show_default="7d")] = None,
    since: Annotated[str | None, typer.Option(help="an instant in RFC 3339, in the place of a window")] = None,
    until: Until = None,
    order: Annotated[Order, typer.Option(help="what comes first")] = "most",
    bots: Annotated[bool, typer.Option("--bots", help="count what bots viewed, too")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 50,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the probes that are viewed most, least (or never), or more than before."""
    answer = ask(
        url, token, "/v1/popularity",
        product=product, channel=channel, window=window, since=since, until=until, order=order,
        bots="true" if bots else None, limit=limit,
    )  # fmt: skip
    show(answer["probes"], COLUMNS, form)
