"""Formats of numbers, times, states and names for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
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
BETWEEN_PARTS = re.compile(r"(?<=\w)([_./])(?=\w)")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def number(value: float | None) -> str:
    """Return a number with thousands separators and at most two decimals; a dash for None."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1_000 else f"{value:,.2f}"


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return NOTHING if value is None else f"{value:.1%}"


def seconds(value: float | None) -> str:
    """Return a duration in its two largest units."""
    if value is None:
        return NOTHING
    whole = round(value)
    for size, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{value:.1f} s" if value < 10 else f"{whole} s"


def size(value: float | None) -> str:
    """Return a number of bytes with its unit."""
    if value is None:
        return NOTHING
    scaled, units = float(value), iter(UNITS)
    unit = next(units)
    while scaled >= 999.5 and unit != UNITS[-1]:
        scaled, unit = scaled / 1_000, next(units)
    return f"{scaled:.3g} {unit}"


def money(value: float | None) -> str:
    """Return an amount in US dollars, to the cent or to two digits that count."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


def moment(value: datetime | str | None) -> str:
    """Return an instant in UTC, to the minute."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{parsed.astimezone(UTC):%Y-%m-%d %H:%M}" if parsed else NOTHING


def day(value: datetime | date | str | None) -> str:
    """Return the UTC day of an instant."""
    return moment(value)[:10] if isinstance(value, str | datetime) else str(value or NOTHING)


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
