"""Who may call a route: each declares its scope, and a token opens it."""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime
from typing import Literal, get_args
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from usage_service.problems import Problem
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.tokens import Grant, Tokens, TokenScope
from usage_service.web.errors import Handler
from usage_service.web.keys import service_of
from usage_service.web.limits import Allowance, Limits

Scope = Literal["open", TokenScope]
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "usage_token"
COOKIE_SECONDS = 12 * 3_600
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Whoever has the operator's token, and on loopback, where none is needed, anybody.
APP = Grant("app", frozenset(get_args(TokenScope)), datetime.max.replace(tzinfo=UTC))


class Access:
    """What the routes of one service share: the tokens, and what each has used of its allowance."""

    def __init__(self, settings: ServerSettings, pool: Pool) -> None:
        self._own = _bytes(settings.token) if settings.token is not None else None
        self._tokens = Tokens(pool)
        self._limits = Limits(settings.requests_a_second) if settings.requests_a_second else None

    async def grant_of(self, request: web.Request) -> Grant | None:
        """What the caller's token opens; None without a token, or with one that opens nothing."""
        given = _token_of(request)
        return await self.grant_of_token(given) if given else None

    async def grant_of_token(self, given: str) -> Grant | None:
        """What a token opens; None when that is nothing."""
        if self._own is not None and hmac.compare_digest(_bytes(given), self._own):
            return APP
        return await self._tokens.find(given)

    def allow(self, request: web.Request, name: str) -> None:
        """Counts a request; raises 429 where there were too many."""
        if self._limits is None:
            return
        allowance = request[ALLOWANCE] = self._limits.take(name, time.monotonic())
        if allowance.retry_seconds:
            wait = {"Retry-After": str(allowance.retry_seconds)}
            raise Problem(429, "Too many requests", f"ask again in {allowance.retry_seconds} s", headers=wait)


ACCESS = web.AppKey("access", Access)
GRANT = web.RequestKey("grant", Grant)
ALLOWANCE = web.RequestKey("allowance", Allowance)


def check_exposure(settings: ServerSettings) -> None:
    """Raises SettingsError where everybody on the network could write."""
    if settings.token is None and settings.host not in LOOPBACK:
        raise SettingsError(f"USAGE_SERVICE_TOKEN must be set to listen on {settings.host}, which others can reach")


def guarded(handler: Handler, scope: Scope) -> Handler:
    """The handler behind a check that the caller's token opens the scope."""
    if scope == "open":
        return handler

    async def guard(request: web.Request) -> web.StreamResponse:
        access = request.app[ACCESS]
        grant = await access.grant_of(request)
        if needs_token(request, scope):
            _check(grant, scope)
        request[GRANT] = grant or APP
        check_origin(request)
        access.allow(request, request[GRANT].name)
        return await handler(request)

    return guard


def needs_token(request: web.Request, scope: Scope) -> bool:
    """Whether the answer depends on who asks."""
    settings = service_of(request).settings
    return settings.token is not None and scope != "open" and not (scope == "read" and settings.open_reads)


def check_origin(request: web.Request) -> None:
    """Raises 403 where a page of another origin would write in the name of whose browser it is open in.

    Who shows a token in a header is no such page; neither is what sends none of the headers that browsers do, unless it
    shows a cookie.
    """
    if request.method in SAFE_METHODS or "Authorization" in request.headers:
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None and origin in (service_of(request).settings.cors_origins or "").split(","):
        same = COOKIE not in request.cookies
    elif site is not None:
        same = site in ("same-origin", "none")
    elif origin is not None:
        same = urlsplit(origin).netloc == request.host
    else:
        same = COOKIE not in request.cookies
    if not same:
        raise Problem(403, "Another origin", "pages of other origins may not do this; use the service's own")


def is_signed_in(request: web.Request) -> bool:
    """Whether the browser shows a token."""
    return COOKIE in request.cookies


def as_cookie(token: str) -> str:
    """A token as the value of the cookie: of characters that a cookie may have."""
    return quote(token, safe="", errors="surrogateescape")


def source_of(request: web.Request) -> str:
    """Who the events of a request are from, as the log has it: the name of the token."""
    return request[GRANT].name


def _check(grant: Grant | None, scope: Scope) -> None:
    if grant is None:
        detail = f"send Authorization: Bearer with a token of scope {scope}"
        raise Problem(401, "Token needed", detail, headers={"WWW-Authenticate": f'Bearer scope="{scope}"'})
    if scope not in grant.scopes:
        raise Problem(
            403,
            "Another scope needed",
            f"this token opens {', '.join(sorted(grant.scopes))}; send one of scope {scope}",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )


def _token_of(request: web.Request) -> str | None:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind:
        return given.strip() if kind.lower() == "bearer" else None
    cookie = request.cookies.get(COOKIE)
    return unquote(cookie, errors="surrogateescape") if cookie else None


def _bytes(token: str) -> bytes:
    # Headers and the environment are decoded like this, so that any bytes survive.
    return token.encode("utf-8", "surrogateescape")
