"""`usage-service experiment`: what other ways to choose would have caught and cost."""

from __future__ import annotations

from typing import Annotated

import typer

from usage_service.commands.asking import ask_rows
from usage_service.shared.options import DEFAULT_URL, Since, Token, Until, Url
from usage_service.shared.tables import FormatOption, show, tell

COLUMNS = ("policy", "budget", "caught", "points", "low", "high", "bytes", "cost", "minutes")


def experiment_command(
    product: Annotated[str, typer.Argument(help="such as fog")],
    since: Since = None,
    until: Until = None,
    budget: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="one of the numbers of probes that are kept, such as 100")
    ] = None,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show what each policy would have caught and cost, all nights since a day added up.

    `points` of the requests is what the hot list caught more, from `low` to `high`; 0 between them is no difference.
    """
    wanted = {"product": product, "since": since, "until": until, "budget": budget}
    answer = ask_rows(url, token, "/v1/hotlist/experiment", "nights", **wanted)
    show([policy | (policy["hot_list_ahead"] or {}) for policy in answer["policies"]], COLUMNS, form)
    if answer["nights"]:
        span = f"{answer['nights']:,} nights, {answer['first_day']} to {answer['last_day']}"
        tell(f"{span}, {answer['requests']:,} requests", err=True)
    else:
        tell("no night is filled yet; a server fills them every half an hour", err=True)
