"""Problems as HTML: a browser gets a page with the error, or the form to sign in."""

from __future__ import annotations

import msgspec
from aiohttp import web

from usage_service.web.errors import Handler
from usage_service.web.pages.panels import html_answer, is_of_the_api

PROBLEM = "application/problem+json"


@web.middleware
async def pages_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn problems of pages into HTML for browsers, which accept text/html by name; programs get JSON."""
    answer = await handler(request)
    if not _is_shown(request, answer) or not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
        return answer
    problem = msgspec.json.decode(answer.body, type=dict[str, object])
    template = "login" if answer.status == 401 else "problem"
    kept = {name: answer.headers[name] for name in ("Retry-After", "WWW-Authenticate") if name in answer.headers}
    shown = {"problem": problem, "following": request.path_qs}
    return await html_answer(request, template, shown, status=answer.status, headers=kept)


def _is_shown(request: web.Request, answer: web.StreamResponse) -> bool:
    wants_html = "text/html" in request.headers.get("Accept", "")
    return wants_html and answer.content_type == PROBLEM and not is_of_the_api(request)
