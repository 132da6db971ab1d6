"""Check of every request before its route is asked: it can be read, and is meant for this service."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from usage_service.problems import Problem
from usage_service.shared.settings import ServerSettings
from usage_service.web.bodies import EXPECTATION, GO_ON
from usage_service.web.errors import Handler

MOST_REMEMBERED = 256  # of the names that callers have for the service


def door(settings: ServerSettings) -> Middleware:
    """Return the middleware that refuses what no route is to see."""

    @web.middleware
    async def check_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        _require_text(request)
        _require_known_expectation(request)
        if settings.token is None:
            _require_own_name(request, settings.host)
        return await handler(request)

    return check_request


def _require_text(request: web.Request) -> None:
    """Raise a Problem (400) for a header or a path that is not UTF-8: aiohttp decodes other bytes to surrogates."""
    for name, value in request.headers.items():
        if not (_is_text(name) and _is_text(value)):
            readable = name.encode("utf-8", "replace").decode()
            raise Problem(400, "Bad request", f"the header {readable} is not UTF-8")
    if not (_is_text(request.raw_path) and _is_text(request.path)):
        raise Problem(400, "Bad request", "the path is not UTF-8; escape other bytes, such as %FF")


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _require_known_expectation(request: web.Request) -> None:
    expected = request.get(EXPECTATION)
    if expected is not None and expected.lower() != GO_ON:
        raise Problem(417, "Unknown expectation", f"Expect is {GO_ON} or not given")


def _require_own_name(request: web.Request, own_host: str) -> None:
    """Raise a Problem (421) for a name that may be anybody's, where no token keeps others out.

    The page of a foreign name that is made to lead to loopback (DNS rebinding) is of the same origin to a browser.
    """
    if not _is_own_name(request.headers.get("Host", ""), own_host):
        detail = "this is not one of its names: ask for localhost or 127.0.0.1, or have it take tokens"
        raise Problem(421, "Misdirected request", detail)


@lru_cache(MOST_REMEMBERED)
def _is_own_name(named: str, own_host: str) -> bool:
    try:
        host = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    return host in ("localhost", own_host) or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
