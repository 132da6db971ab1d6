"""Formats of numbers, times, states and names for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from urllib.parse import quote

from markupsafe import Markup, escape

STATES = {
    "queued": "waiting for a builder",
    "running": "being built",
    "succeeded": "built",
    "no_data": "built: too few clients send it",
    "failed": "failed",
    "cancelled": "cancelled",
}
NAMES = {
    "starting_point": "starting point",
    "in_between": "in between",
    "p5": "5 %",
    "p25": "25 %",
    "p50": "median",
    "p75": "75 %",
    "p95": "95 %",
    "summed_histogram": "distribution",
    "most_viewed_7d": "most viewed in 7 days",
    "most_viewed_30d": "most viewed in 30 days",
    "most_viewed_90d": "most viewed in 90 days",
    "viewed_in_90d": "viewed in 90 days",
    "clairvoyant": "best possible",
}
NOTHING = "\N{EN DASH}"
KEPT = 4_096  # texts of each kind: a page has each day several times, and the next page the same days
BETWEEN_PARTS = re.compile(r"(?<=\w)([_./])(?=\w)")


def number(value: float | None) -> str:
    """Return a number with thousands separators and at most two decimals; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1_000 else f"{value:,.2f}"


def counted(value: int, noun: str) -> str:
    """Return a number with its noun: no probe, 1 probe, 2 probes."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}" if value else f"no {noun}"


def money(value: float | None) -> str:
    """Return an amount in US dollars, to the cent or to two digits that count."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


@lru_cache(KEPT)
def moment(value: datetime | str | None) -> str:
    """Return an instant in UTC, to the minute."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{parsed.astimezone(UTC):%Y-%m-%d %H:%M}" if parsed else NOTHING


def day(value: datetime | date | str | None) -> str:
    """Return the UTC day of an instant; a day is itself."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
    return moment(value)[:10] if isinstance(value, datetime) else str(value or NOTHING)


@lru_cache(KEPT)
def unbroken(value: str) -> Markup:
    """Return a text as HTML that no line breaks within."""
    return Markup('<span class="do">{}</span>').format(value)


def has_expired(expires: str, today: date) -> bool:
    """Return whether what expires then no longer counts; of a version nobody can say."""
    try:
        return expires == "expired" or date.fromisoformat(expires) <= today
    except ValueError:
        return False


def state(value: str) -> str:
    """Return the state of a build in words."""
    return STATES.get(value, value)


def plain(value: str) -> str:
    """Return a name of the API in words."""
    return NAMES.get(value, value.replace("_", " "))


def path_segment(value: str) -> str:
    """Return a text quoted as a segment of a URL's path."""
    return quote(value, safe="")


def breakable(value: str) -> Markup:
    """Return a name as HTML that may break into lines after each of its parts; its text stays the same."""
    return Markup(BETWEEN_PARTS.sub(r"\1<wbr>", str(escape(value))))


def yes_or_no(value: object) -> object:
    """Return a boolean as yes or no, and any other value as it is."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def cells(rows: Iterable[Mapping[str, object]]) -> list[list[object]]:
    """Return the rows of a chart as cells of a table, with instants and numbers formatted."""
    return [[_cell(name, value) for name, value in row.items()] for row in rows]


def _cell(name: str, value: object) -> object:
    if name == "start":
        return unbroken(moment(str(value)))
    return number(value) if isinstance(value, int | float) else value
