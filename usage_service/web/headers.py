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


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Adds them just before an answer is sent; a page that shows something brings a policy of its own."""
    headers = response.headers
    headers.update(HEADERS)
    headers.setdefault("Content-Security-Policy", POLICY)
    if (allowance := request.get(ALLOWANCE)) is not None:
        headers.update(allowance.headers)
