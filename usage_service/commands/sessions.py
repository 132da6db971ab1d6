"""`usage-service sessions`: how people work."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.options import DEFAULT_URL, Product, Token, Until, Url
from usage_service.commands.tables import FormatOption, show
from usage_service.shared.remote import ask
from usage_service.stats.sessions import Bots

COLUMNS = ("started_at", "seconds", "events", "role", "came_from", "first_page", "probes", "controls", "tools_left")


def sessions_command(
    product: Product = None,
    since: Annotated[str | None, typer.Option(help="an instant in RFC 3339; a week ago, where none is given")] = None,
    until: Until = None,
    bots: Annotated[Bots, typer.Option(help="whether sessions of bots are shown")] = "exclude",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 100,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show sessions, latest first."""
    answer = ask(url, token, "/v1/sessions", product=product, since=since, until=until, bots=bots, limit=limit)
    show(answer["sessions"], COLUMNS, form)
