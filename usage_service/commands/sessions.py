"""`usage-service sessions`: how people work."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.asking import ask_rows
from usage_service.shared.options import DEFAULT_URL, Product, Since, Token, Until, Url
from usage_service.shared.tables import FormatOption, show
from usage_service.stats.sessions import Bots

COLUMNS = ("started_at", "seconds", "events", "role", "came_from", "first_page", "probes", "controls", "tools_left")


def sessions_command(
    product: Product = None,
    since: Since = None,
    until: Until = None,
    bots: Annotated[Bots, typer.Option(help="whether sessions of bots are shown")] = "exclude",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 100,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show sessions, latest first."""
    wanted = {"product": product, "since": since, "until": until, "bots": bots, "limit": limit}
    answer = ask_rows(url, token, "/v1/sessions", "sessions", **wanted)
    show(answer["sessions"], COLUMNS, form)
