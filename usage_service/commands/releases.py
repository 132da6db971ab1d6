"""`usage-service releases`: how releases change the number of views, and the retraction of those that never were."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

import typer

from usage_service.commands.asking import ask_rows
from usage_service.shared.errors import UserError
from usage_service.shared.options import DEFAULT_URL, Product, Token, Url, refuse_misplaced
from usage_service.shared.remote import ask, send
from usage_service.shared.tables import FormatOption, show, tell
from usage_service.shared.unknown_names import refuse_unknown

COLUMNS = (
    "product", "channel", "version", "published_at", "views_before", "views_after", "ratio", "effect", "low", "high",
    "p_value",
)  # fmt: skip


RETRACTED = ("product", "channel", "version", "published_at")
A_PAGE = 100
VERSIONS = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")

releases_app = typer.Typer(
    invoke_without_command=True, help="How releases change the number of views; retract those that never were."
)


class RetractionError(UserError):
    """No release can be retracted; the message says why."""


@releases_app.callback()
def list_command(
    context: typer.Context,
    product: Product = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="days before and after that are compared")] = 7,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show views before and after each release: their ratio with a confidence interval, and how likely chance is."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    answer = ask_rows(url, token, "/v1/releases/impact", "releases", product=product, days=days)
    show(answer["releases"], COLUMNS, form)


@releases_app.command("retract")
def retract_command(
    product: Annotated[str, typer.Argument(help="such as fog")],
    channel: Annotated[str, typer.Argument(help="such as release")],
    versions: Annotated[list[str], typer.Argument(help="major versions, such as 100, or 1-99 for several")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be retracted")] = False,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Take back releases as they are shown now: where another day was recorded of a version, that one counts then."""
    wanted = [_range(version) for version in versions]
    shown = _published(url, token, product, channel)
    found = [release for release in shown if any(release["version"] in each for each in wanted)]
    if not found:
        refuse_unknown(url, token, product, channel)
        raise RetractionError(
            f"no such version of {product} {channel} was published; `usage-service releases` shows all"
        )
    if not dry_run:
        for start in range(0, len(found), A_PAGE):
            send(url, token, "POST", "/v1/events", [_retraction(one) for one in found[start : start + A_PAGE]])
    show(found, RETRACTED, form)
    told = "would be retracted" if dry_run else "retracted; where another day was recorded, it counts now"
    tell(f"{len(found):,} {told}", err=True)


def _range(text: str) -> range:
    found = VERSIONS.fullmatch(text)
    if found is None:
        raise RetractionError(f"{text!r} is no major version, such as 100, and no range of them, such as 1-99")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def _published(url: str, token: str | None, product: str, channel: str) -> list[dict[str, Any]]:
    """Return the releases of a channel, latest first, a page after the other."""
    return list({release["version"]: release for release in _pages(url, token, product, channel)}.values())


def _pages(url: str, token: str | None, product: str, channel: str) -> Iterator[dict[str, Any]]:
    until: str | None = None
    while True:
        asked = {"product": product, "channel": channel, "limit": A_PAGE, "until": until}
        page = ask(url, token, "/v1/releases/impact", **asked)["releases"]
        yield from page
        if len(page) < A_PAGE or page[0]["published_at"] == page[-1]["published_at"]:
            return
        # Included again, because others may have the same instant.
        until = (datetime.fromisoformat(page[-1]["published_at"]) + timedelta(microseconds=1)).isoformat()


def _retraction(release: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": str(uuid4()),
        "type": "release_retracted",
        "occurred_at": datetime.now(UTC).isoformat(),
        "product": release["product"],
        "channel": release["channel"],
        "data": {"version": release["version"], "published_at": release["published_at"]},
    }
