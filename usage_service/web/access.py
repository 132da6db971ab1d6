"""Who may call a route: each declares its scope, and a token opens it."""

from __future__ import annotations

import hmac
from typing import Literal

from aiohttp import web

from usage_service.problems import Problem
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.web.errors import Handler
from usage_service.web.keys import service_of

Scope = Literal["open", "events", "read", "build", "admin"]
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def check_exposure(settings: ServerSettings) -> None:
    """Raises SettingsError where everybody on the network could write."""
    if settings.token is None and settings.host not in LOOPBACK:
        raise SettingsError(f"USAGE_SERVICE_TOKEN must be set to listen on {settings.host}, which others can reach")


def guarded(handler: Handler, scope: Scope) -> Handler:
    """The handler behind a check that the caller's token opens the scope."""

    async def guard(request: web.Request) -> web.StreamResponse:
        _check(request, scope)
        return await handler(request)

    return guard


def needs_token(request: web.Request, scope: Scope) -> bool:
    """Whether the answer depends on who asks."""
    settings = service_of(request).settings
    return settings.token is not None and scope != "open" and not (scope == "read" and settings.open_reads)


def source_of(_request: web.Request) -> str:
    """Who the events of a request are from, as the log has it."""
    return "app"


def _check(request: web.Request, scope: Scope) -> None:
    if not needs_token(request, scope):
        return
    token = service_of(request).settings.token or ""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(_bytes(given.strip()), _bytes(token)):
        raise Problem(
            401,
            "Token needed",
            f"send Authorization: Bearer with a token of scope {scope}",
            headers={"WWW-Authenticate": f'Bearer scope="{scope}"'},
        )


def _bytes(token: str) -> bytes:
    # Headers and the environment are decoded like this, so that any bytes survive.
    return token.encode("utf-8", "surrogateescape")
