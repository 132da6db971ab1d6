"""Every request has an id: the caller's or one of ours, in the answer and in all that is logged meanwhile."""

from __future__ import annotations

import re
from uuid import uuid4

import structlog
from aiohttp import web

from usage_service.web.errors import Handler

HEADER = "X-Request-Id"
REQUEST_ID = web.RequestKey("request_id", str)
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@web.middleware
async def name_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Takes the caller's id where it is one, so that nothing else gets into the logs by it."""
    given = request.headers.get(HEADER, "")
    request[REQUEST_ID] = given if _ID.fullmatch(given) else uuid4().hex
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        return await handler(request)


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Adds it just before an answer is sent."""
    if REQUEST_ID in request:
        response.headers[HEADER] = request[REQUEST_ID]
