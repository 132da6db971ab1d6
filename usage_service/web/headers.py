"""What every answer says besides: nothing of it is to be run, framed, guessed at or sent on by a browser."""

from __future__ import annotations

from aiohttp import web

from usage_service.web.access import ALLOWANCE

SERVER = "usage-service"  # without versions
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": SERVER,
}
POLICY = "default-src 'none'; frame-ancestors 'none'"


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Adds them just before an answer is sent; a page that shows something brings a policy of its own."""
    headers = response.headers
    headers.update(HEADERS)
    if "Content-Security-Policy" not in headers:
        headers["Content-Security-Policy"] = POLICY


async def add_allowance(request: web.Request, response: web.StreamResponse) -> None:
    """Adds what is left to the caller, where requests are counted."""
    if (allowance := request.get(ALLOWANCE)) is not None:
        response.headers.update(allowance.headers)
