"""Headers by which a request says how it wants to be answered: Prefer (RFC 7240), Idempotency-Key, Last-Event-ID."""

from __future__ import annotations

import re

from aiohttp import web

from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.problems import FieldError, invalid

LONGEST_WAIT = 60
PREFERENCE = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|$)|[^,"])+')
KEY = re.compile(r"[\x20-\x7e]{1,255}")


def preferred_wait(request: web.Request) -> int | None:
    """Return the seconds of `Prefer: wait=N`, at most 60; None when it is not given or not a number."""
    return parse_wait(", ".join(request.headers.getall("Prefer", ())))


def parse_wait(prefer: str) -> int | None:
    """Return the seconds of `wait` in a value of Prefer; when it is given several times the first counts."""
    for preference in PREFERENCE.findall(prefer):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return _seconds(value.strip().strip('"'))
    return None


def _seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return LONGEST_WAIT if len(digits) > len(str(LONGEST_WAIT)) else min(int(digits), LONGEST_WAIT)


def idempotency_key(request: web.Request) -> str | None:
    """Return the request's Idempotency-Key; raise a Problem (422) when it is not well-formed."""
    key = _one(request, "Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise invalid([FieldError(parameter="Idempotency-Key", detail="must be 1 to 255 printable ASCII characters")])
    return key


def last_event_id(request: web.Request) -> int | None:
    """Return the position after which a stream goes on; raise a Problem (422) when it is no event's id."""
    text = _one(request, "Last-Event-ID")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > LARGEST_POSITION:
        raise invalid([FieldError(parameter="Last-Event-ID", detail="must be the id of an event of this stream")])
    return int(text)


def _one(request: web.Request, header: str) -> str | None:
    given: list[str] = request.headers.getall(header, [])
    if len(given) > 1:
        raise invalid([FieldError(parameter=header, detail="is given twice")])
    return given[0] if given else None
