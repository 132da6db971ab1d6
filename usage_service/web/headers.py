"""Headers of every answer: those that keep browsers safe, the rate limit, and the request's id."""

from __future__ import annotations

import re
from secrets import token_hex

import structlog
from aiohttp import web

from usage_service.web.access import ALLOWANCE
from usage_service.web.errors import Handler

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "usage-service",  # without versions
}
POLICY = "default-src 'none'; frame-ancestors 'none'"
REQUEST_ID_HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers of every answer; a page brings a Content-Security-Policy of its own."""
    headers = response.headers
    headers.update(SECURITY_HEADERS)
    if "Content-Security-Policy" not in headers:
        headers["Content-Security-Policy"] = POLICY
    if (request_id := request.get(REQUEST_ID)) is not None:
        headers[REQUEST_ID_HEADER] = request_id
    if (allowance := request.get(ALLOWANCE)) is not None:  # the request was counted
        headers.update(allowance.headers)


@web.middleware
async def bind_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, for its answer and for all that is logged meanwhile.

    The caller's id is used when it is well-formed, so that nothing else gets into the logs by it.
    """
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _ID.fullmatch(given) else token_hex(16)
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])  # aiohttp gives each a context of its own
    return await handler(request)
