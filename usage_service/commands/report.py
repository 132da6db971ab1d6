"""`usage-service report`: the overview and the hot list as one file to pass on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from usage_service.shared.files import STDOUT, is_stdout, written_whole
from usage_service.shared.options import DEFAULT_URL, Token, Url, require_suffix
from usage_service.shared.remote import RemoteError, ask
from usage_service.shared.tables import tell
from usage_service.shared.unknown_names import refuse_unknown
from usage_service.web.pages.presentation.report import report_page

LISTED = 10


def report_command(
    product: Annotated[str, typer.Option(help="such as fog")] = "fog",
    days: Annotated[int, typer.Option(min=1, max=120, help="so many days up to now")] = 28,
    budget: Annotated[int, typer.Option(min=1, max=2_000, help="how many probes of the hot list")] = 100,
    out: Annotated[Path, typer.Option(dir_okay=False, writable=True, help="where to write it")] = Path("report.html"),
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Write how a product is used, and what is worth building, to one HTML file that needs nothing else."""
    if out != STDOUT:
        require_suffix(out, (".html", ".htm"), "--out")
    refuse_unknown(url, token, product)
    now = datetime.now(UTC)
    since = (now - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    window = {"product": product, "since": since}
    answers: dict[str, Any] = {
        "series": ask(url, token, "/v1/timeseries", **window),
        "summary": ask(url, token, "/v1/sessions/summary", **window),
        "releases": ask(url, token, "/v1/releases/impact", **window),
        "hot": ask(url, token, "/v1/hotlist", product=product, budget=budget),
        "backtest": _backtest(url, token, product),
    }
    for order in ("most", "trending", "least"):
        answers[order] = ask(url, token, "/v1/popularity", **window, order=order, limit=LISTED)
    page = report_page(product, answers, now).encode()
    with written_whole(out) as file:
        file.write(page)
    tell(f"{out}: {len(page):,} bytes", err=is_stdout(out))


def _backtest(url: str, token: str | None, product: str) -> dict[str, Any] | None:
    try:
        return ask(url, token, "/v1/hotlist/backtest", product=product)
    except RemoteError as error:
        if error.status == 404:  # there is no day yet that a list can be held against
            return None
        raise
