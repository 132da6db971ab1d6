"""Access to routes: each declares a scope, and a token grants scopes."""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime
from typing import Literal, get_args
from urllib.parse import urlsplit

from aiohttp import web

from usage_service.limits import Allowance, Limits
from usage_service.problems import Problem
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.tokens import FEED, Grant, Tokens, TokenScope, proof_of
from usage_service.web.errors import Handler
from usage_service.web.guesses import Guesses, proxies_of
from usage_service.web.keys import service_of

Scope = Literal["open", TokenScope]
SHORTEST_TOKEN = 16
UNGUESSABLE = 32  # characters: more than anybody finds out by asking
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "usage_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The grant of the operator's token. On loopback without a token in the settings, everybody has it.
APP = Grant("app", frozenset(get_args(TokenScope)), datetime.max.replace(tzinfo=UTC))
ANYBODY = APP._replace(scopes=frozenset[str]())  # without a token, where one is needed for more than to read


class Access:
    """Tokens and sessions of one service, the rate limit of each, and that of wrong ones."""

    def __init__(self, settings: ServerSettings, pool: Pool) -> None:
        self._own = settings.token
        self._tokens = Tokens(pool)
        self._limits = Limits(settings.requests_a_second) if settings.requests_a_second else None
        self.guesses = Guesses(proxies_of(settings.trusted_proxies))

    async def grant_of(self, request: web.Request, shown: str, *, is_needed: bool) -> Grant | None:
        """Return the grant of the token or session that is shown; None without one, or when it is not valid.

        Where it is needed, a wrong token is counted; raise a Problem (429) after too many from the caller's address.
        """
        if not shown:
            return None
        if "Authorization" not in request.headers:
            return await self._grant_of_session(shown)
        return await (self._grant_of_token(request, shown) if is_needed else self._tokens.find(shown))

    async def still_opens(self, request: web.Request) -> bool:
        """Return whether the token or session that opened the route for a request is still valid.

        Raise one of UNAVAILABLE when the database cannot be asked.
        """
        shown = request.get(SHOWN)
        return shown is None or self._is_own(shown) or await self._tokens.are_valid(shown)

    async def require_open(self, request: web.Request) -> None:
        """Raise a Problem (401) when the token or session that opened the route for a request is not valid any more."""
        if not await self.still_opens(request):
            detail = "the token or session was revoked, ended or expired while this request waited"
            raise Problem(401, "Token needed", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    async def grant_of_feed(self, request: web.Request, token: str) -> Grant:
        """Return the grant of the token in a feed's address, which may open feeds only.

        Raise a Problem: 404 for any other token, 429 after too many wrong ones from the caller's address.
        """
        grant = await self._grant_of_token(request, token)
        if grant is None or grant.scopes != {FEED}:
            detail = "the address was mistyped, or its token has expired, was revoked or opens more than feeds"
            raise Problem(404, "Unknown feed", f"{detail}; `usage-service token create NAME --scope feed` makes one")
        return grant

    async def sign_in(self, request: web.Request, token: str) -> str | None:
        """Open a session for a token, in the place of the browser's earlier one, and return its secret.

        Return None when the token is not valid; raise a Problem (429) as `grant_of`.
        """
        if await self._grant_of_token(request, token) is None:
            return None
        await self.sign_out(request)
        return await self._tokens.open_session(token, is_operators=self._is_own(token))

    async def sign_out(self, request: web.Request) -> None:
        """End the browser's session, if it has one."""
        if secret := request.cookies.get(COOKIE):
            await self._tokens.close_session(secret)

    async def _grant_of_token(self, request: web.Request, given: str) -> Grant | None:
        # What cannot be guessed is looked at before the limit: others at the same address do not lock its owner out.
        if grant := await self._tokens.find(given):
            return grant
        if len(given) < UNGUESSABLE:
            self.guesses.require_allowed(request)
        if self._is_own(given):
            return APP
        self.guesses.require_allowed(request)
        self.guesses.count(request)
        return None

    async def _grant_of_session(self, secret: str) -> Grant | None:
        session = await self._tokens.find_session(secret)
        if session is None or session.proof is None:
            return session and session.grant
        is_operators = self._own is not None and hmac.compare_digest(session.proof, proof_of(secret, self._own))
        return APP if is_operators else None

    def _is_own(self, given: str) -> bool:
        return self._own is not None and hmac.compare_digest(_bytes(given), _bytes(self._own))

    def allow(self, request: web.Request, name: str) -> None:
        """Count a request against the rate limit of `name`; raise a Problem (429) when the limit is exceeded."""
        if self._limits is None:
            return
        allowance = request[ALLOWANCE] = self._limits.take(name, time.monotonic())
        if allowance.retry_seconds:
            wait = {"Retry-After": str(allowance.retry_seconds)}
            raise Problem(429, "Too many requests", f"ask again in {allowance.retry_seconds} s", headers=wait)


ACCESS = web.AppKey("access", Access)
GRANT = web.RequestKey("grant", Grant)
SHOWN = web.RequestKey("shown", str)  # the token or the session's secret, where the route is not open without
ALLOWANCE = web.RequestKey("allowance", Allowance)


def check_exposure(settings: ServerSettings) -> None:
    """Raise SettingsError when the service would listen on the network without a token, or with one to be guessed."""
    if settings.host in LOOPBACK:
        return
    if settings.token is None:
        raise SettingsError(f"USAGE_SERVICE_TOKEN must be set to listen on {settings.host}, which others can reach")
    if len(settings.token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"USAGE_SERVICE_TOKEN must have {SHORTEST_TOKEN} characters or more to listen on {settings.host}: "
            "take one of `openssl rand -hex 32`"
        )


def guarded(handler: Handler, scope: Scope) -> Handler:
    """Return the handler behind a check that the caller's token grants the scope."""
    if scope == "open":
        return handler

    async def guard(request: web.Request) -> web.StreamResponse:
        access = request.app[ACCESS]
        is_needed = needs_token(request, scope)
        shown = request.match_info["token"] if scope == FEED else _shown(request)
        if scope == FEED:
            grant = await access.grant_of_feed(request, shown) if is_needed else None
        else:
            grant = await access.grant_of(request, shown, is_needed=is_needed)
        if is_needed:
            _check(grant, scope)
            request[SHOWN] = shown
        request[GRANT] = grant or (APP if service_of(request).settings.token is None else ANYBODY)
        check_origin(request)
        access.allow(request, request[GRANT].name)
        return await handler(request)

    return guard


def needs_token(request: web.Request, scope: Scope) -> bool:
    """Return whether the route needs a token."""
    settings = service_of(request).settings
    return settings.token is not None and scope != "open" and not (scope in ("read", FEED) and settings.open_reads)


def opened_scopes(request: web.Request) -> frozenset[TokenScope]:
    """Return the scopes of the routes that the caller may use."""
    granted = request[GRANT].scopes if GRANT in request else frozenset[str]()
    return frozenset(scope for scope in get_args(TokenScope) if scope in granted or not needs_token(request, scope))


def check_origin(request: web.Request) -> None:
    """Raise a Problem (403) for a cross-site request that would write (CSRF).

    A request with a token in a header cannot be one. A request with neither `Origin` nor `Sec-Fetch-Site` is not from a
    browser's page, unless it has the cookie.
    """
    if request.method in SAFE_METHODS or "Authorization" in request.headers:
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None and origin in (service_of(request).settings.cors_origins or "").split(","):
        same = COOKIE not in request.cookies
    elif site is not None:
        same = site in ("same-origin", "none")
    elif origin is not None:
        same = _host_of(origin) == request.host
    else:
        same = COOKIE not in request.cookies
    if not same:
        raise Problem(403, "Another origin", "pages of other origins may not do this; use the service's own")


def _host_of(origin: str) -> str | None:
    """Return the host and port of an origin, None for a text that is none, such as `http://[x`."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def is_signed_in(request: web.Request) -> bool:
    """Return whether the request has the cookie of a signed-in browser."""
    return COOKIE in request.cookies


def source_of(request: web.Request) -> str:
    """Return the source that the log records for the request's events: the name of the token."""
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


def _shown(request: web.Request) -> str:
    """Return the token that the request shows, else its session's secret; "" for neither."""
    return _bearer(request) if "Authorization" in request.headers else request.cookies.get(COOKIE, "")


def _bearer(request: web.Request) -> str:
    kind, _, given = request.headers["Authorization"].partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


def _bytes(token: str) -> bytes:
    # Headers and the environment are decoded with surrogateescape, so any bytes survive this.
    return token.encode("utf-8", "surrogateescape")
