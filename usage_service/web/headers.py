"""Headers of every answer: those that keep browsers safe, the rate limit, and the request's id."""

from __future__ import annotations

import re
from uuid import uuid4

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


async def add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that keep browsers safe; a page brings a Content-Security-Policy of its own."""
    headers = response.headers
    headers.update(SECURITY_HEADERS)
    if "Content-Security-Policy" not in headers:
        headers["Content-Security-Policy"] = POLICY


async def add_allowance(request: web.Request, response: web.StreamResponse) -> None:
    """Add the rate limit's headers when the request was counted."""
    if (allowance := request.get(ALLOWANCE)) is not None:
        response.headers.update(allowance.headers)


@web.middleware
async def bind_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, for its answer and for all that is logged meanwhile.

    The caller's id is used when it is well-formed, so that nothing else gets into the logs by it.
    """
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _ID.fullmatch(given) else uuid4().hex
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        return await handler(request)


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Add the request's id to its answer."""
    if REQUEST_ID in request:
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
