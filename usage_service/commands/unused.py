"""`usage-service unused`: the probes that nobody needs."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.asking import ask_rows
from usage_service.shared.options import DEFAULT_URL, Channel, Product, Since, Token, Until, Url
from usage_service.shared.tables import FormatOption, show, tell

COLUMNS = (
    "product", "probe", "bytes", "last_viewed_on", "registered_at", "expires", "owners", "metric_type", "bot_views",
    "bytes_basis",
)  # fmt: skip


def unused_command(
    product: Product = None,
    channel: Channel = None,
    window: Annotated[str | None, typer.Option(help="so many days without a view", show_default="90d")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 10_000,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the probes of the catalogue that nobody viewed for some time, those that cost most first."""
    wanted = {"product": product, "channel": channel, "window": window, "since": since, "until": until, "limit": limit}
    answer = ask_rows(url, token, "/v1/unused", "probes", **wanted)
    show(answer["probes"], COLUMNS, form)
    totals = answer["totals"]
    shown = f"{len(answer['probes']):,} of {totals['probes']:,}"
    tell(f"{shown} from {answer['first_day']} to {answer['last_day']}; {answer['blind_spot']}", err=True)
