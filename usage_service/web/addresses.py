"""Addresses of answers: the path and query at which the API answers a question again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, urlencode

from usage_service.windows import Days


def address(path: str, **asked: object) -> str:
    """Return a path with a query of these parameters; None is left out, and a tuple is a parameter that is repeated."""
    given = {
        name: [_text(one) for one in value] if isinstance(value, tuple) else _text(value)
        for name, value in asked.items()
        if value is not None
    }
    query = urlencode(given, doseq=True)
    return f"{path}?{query}" if query else path


def path_of(*segments: str) -> str:
    """Return a path of texts, each quoted."""
    return "".join(f"/{quote(one, safe='')}" for one in segments)


def of_days(days: Days) -> dict[str, datetime]:
    """Return the parameters `since` and `until` that name the days, so that they stay the same tomorrow."""
    first, last = (datetime.combine(day, datetime.min.time(), UTC) for day in days)
    return {"since": first, "until": last + timedelta(days=1)}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)
