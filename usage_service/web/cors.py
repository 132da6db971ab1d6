"""CORS (the Fetch standard's protocol): pages of the origins that the settings name may call the API, no others."""

from __future__ import annotations

from aiohttp import web

from usage_service.web.errors import Handler

METHODS = "GET, HEAD, POST, DELETE"
SENT = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, Usage-Visitor"
READ = "ETag, Link, Location, Log-Position, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
AGE_SECONDS = 3600


def allow_origins(app: web.Application, origins: frozenset[str]) -> None:
    """Let pages of these origins send requests and read the answers."""

    @web.middleware
    async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_known = request.headers.get("Origin") in origins
        if is_known and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=_permission())
        return await handler(request)

    async def allow_reading(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = READ

    app.middlewares.append(answer_preflight)
    app.on_response_prepare.append(allow_reading)


def _permission() -> dict[str, str]:
    return {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": SENT,
        "Access-Control-Max-Age": str(AGE_SECONDS),
    }
