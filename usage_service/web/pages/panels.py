"""What the pages have in common: their panels, which are answers of the API, and how they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from usage_service.problems import Problem
from usage_service.projections.state import Status, projection_statuses
from usage_service.web.access import is_signed_in
from usage_service.web.answering import ANSWER_SECONDS, ANSWERING, Question
from usage_service.web.gzipped import gzip_answer
from usage_service.web.keys import service_of
from usage_service.web.pages.presentation.rendering import rendered

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "private, no-cache"}
API = ("/v1/", "/api/", "/__", "/metrics", "/openapi.json", "/docs")


class Panel(NamedTuple):
    """What the API answers to a question, or the problem that it has with it; `position` is up to where it has seen."""

    data: Any
    problem: dict[str, object] | None
    position: int


async def ask(request: web.Request, question: Question) -> Panel:
    """The panel of one question: what is wrong with it leaves the others standing."""
    answering = request.app[ANSWERING]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await answering.answer(question, await answering.version(question))
    except Problem as problem:
        return Panel(None, problem.body, int(problem.headers.get("Log-Position", 0)))
    return Panel(msgspec.json.decode(found.body.data), None, found.version.position)


async def ask_all(request: web.Request, **questions: Question) -> dict[str, Panel]:
    """The panels of several questions, asked at the same time."""
    panels = await asyncio.gather(*(ask(request, question) for question in questions.values()))
    return dict(zip(questions, panels, strict=True))


async def html_answer(
    request: web.Request,
    template: str,
    context: Mapping[str, object],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The template as a page that may load nothing but the service's own files."""
    text = rendered(template, signed_in=is_signed_in(request), **context)
    sent = HEADERS | {"Vary": "Authorization, Cookie"} | dict(headers or {})
    answer = web.Response(text=text, content_type="text/html", status=status, headers=sent)
    return await gzip_answer(request, answer)


async def how_fresh(request: web.Request) -> list[Status]:
    """How far the live projections are."""
    async with service_of(request).pool.acquire(timeout=5) as connection:
        statuses = await projection_statuses(connection)
    return [status for status in statuses if status.stage == "live"]


def is_of_the_api(request: web.Request) -> bool:
    """Whether programs ask there: they are answered as they are everywhere."""
    return request.path.startswith(API)
