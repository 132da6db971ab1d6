"""Panels of pages, which are answers of the API, and the HTML responses that show them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec
from aiohttp import web

from usage_service.problems import Problem
from usage_service.projections.state import Status, projection_statuses
from usage_service.web.access import is_signed_in, needs_token, opened_scopes
from usage_service.web.answering import ANSWER_SECONDS, ANSWERING, Question
from usage_service.web.gzipped import gzip_answer
from usage_service.web.keys import service_of
from usage_service.web.pages.presentation.rendering import rendered

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"}
API = ("/v1/", "/api/", "/feeds/", "/__", "/metrics", "/openapi.json", "/docs")


class Panel(NamedTuple):
    """Answer of the API to a question, or its problem; `position` is the log position that it has seen.

    `address` is where the API answers it, for whoever takes the table or chart away.
    """

    data: Any
    problem: dict[str, object] | None
    position: int
    address: str | None = None


async def ask(request: web.Request, question: Question) -> Panel:
    """Return the panel of one question; a problem is shown in the panel, beside the others."""
    try:
        return await answered(request, question)
    except Problem as problem:
        return Panel(None, problem.body, int(problem.headers.get("Log-Position", 0)), question.address)


async def answered(request: web.Request, question: Question) -> Panel:
    """Return the panel of one question without which there is no page; raise its Problem."""
    answering = request.app[ANSWERING]
    async with asyncio.timeout(ANSWER_SECONDS):
        found = await answering.answer(question, await answering.version(question))
    return Panel(msgspec.json.decode(found.body.data), None, found.version.position, question.address)


async def ask_all(request: web.Request, **questions: Question) -> dict[str, Panel]:
    """Return the panels of several questions, asked at the same time."""
    panels = await asyncio.gather(*(ask(request, question) for question in questions.values()))
    return dict(zip(questions, panels, strict=True))


def following_cursor(panel: Panel) -> str | None:
    """Return the cursor in an answer's link to what follows a page of a list, if something does."""
    link = panel.data["next"] if panel.data else None
    return parse_qs(urlsplit(link).query)["cursor"][0] if link else None


async def html_answer(
    request: web.Request,
    template: str,
    context: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer with the template as HTML, which may load nothing but the service's own files."""
    who = {"signed_in": is_signed_in(request), "may": opened_scopes(request)}
    text = rendered(template, **who, token_needed=needs_token(request, "read"), **context)
    sent = HEADERS | {"Vary": "Authorization, Cookie"} | dict(headers or {})
    answer = web.Response(text=text, content_type="text/html", status=status, headers=sent)
    return await gzip_answer(request, answer)


async def how_fresh(request: web.Request) -> list[Status]:
    """Return the statuses of the live projections."""
    async with service_of(request).pool.acquire(timeout=5) as connection:
        statuses = await projection_statuses(connection)
    return [status for status in statuses if status.stage == "live"]


def is_of_the_api(request: web.Request) -> bool:
    """Return whether the request is for the API, whose problems are JSON for browsers, too."""
    return request.path.startswith(API)
