"""Fields that access logs have in common: times, requests, clients with their agents."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache

from usage_service.user_agents import is_bot, visitor_of

MOST_KEPT = 10_000
MOST_KEPT_CHARACTERS = 512
MISSING = ("", "-")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LOG_TIME = re.compile(r"(\d\d/[A-Z][a-z]{2}/\d{4}):((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d) ([+-]\d\d[0-5]\d)", re.ASCII)
ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[]+))(?::\d+)?")


def instant_of_log(text: str) -> str | None:
    """Return a time of the common log format as RFC 3339, None if it is none."""
    match = LOG_TIME.fullmatch(text)
    if match is None:
        return None
    day, time, zone = match.groups()
    on = _date(day)
    return on and f"{on}T{time}{zone[:3]}:{zone[3:]}"


@lru_cache(MOST_KEPT)
def _date(text: str) -> str | None:
    day, month, year = text.split("/")
    try:
        return date(int(year), MONTHS.index(month) + 1, int(day)).isoformat()
    except ValueError:
        return None


def instant_of_text(text: str) -> str | None:
    """Return a time in ISO 8601 with a zone, or in BigQuery's form with `UTC` behind it, as RFC 3339, else None."""
    try:
        instant = datetime.fromisoformat(f"{text.removesuffix(' UTC')}+00" if text.endswith(" UTC") else text)
    except ValueError:
        return None
    return instant.isoformat() if instant.tzinfo else None


def instant_of_seconds(text: str) -> str | None:
    """Return a time in seconds since 1970, such as nginx's `$msec`, as RFC 3339, else None."""
    try:
        return datetime.fromtimestamp(float(text), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def request_of(line: str) -> tuple[str, str] | None:
    """Return method and target of the first line of a request, None where it is no line of HTTP."""
    method, _, rest = line.partition(" ")
    target, _, protocol = rest.rpartition(" ")
    return (method, target) if target and protocol.startswith("HTTP/") else None


def client_of(address: str, agent: str | None) -> tuple[str | None, bool]:
    """Return the visitor and whether it is a program; without a field for agents (None) nothing tells of the latter."""
    if len(address) + len(agent or "") <= MOST_KEPT_CHARACTERS:
        return _kept_client(address, agent)
    return _client(address, agent)


def first_address(forwarded: str | None) -> str | None:
    """Return the address of the client in a list of X-Forwarded-For, None where there is none."""
    address = forwarded and without_port(forwarded.partition(",")[0].strip())
    return address if address and ADDRESS.fullmatch(address) else None


def without_port(address: str) -> str:
    """Return the address of a client or the name of a host without its port."""
    match = PORT.fullmatch(address)
    return (match[1] or match[2]) if match else address


def said(value: str | None) -> str | None:
    """Return what a field says, None where it says nothing."""
    return None if value in MISSING else value


def _client(address: str, agent: str | None) -> tuple[str | None, bool]:
    told = "" if agent in MISSING else agent or ""
    visitor = None if address in MISSING else visitor_of(address, told)
    return visitor, agent is not None and is_bot(told)


_kept_client = lru_cache(MOST_KEPT)(_client)
