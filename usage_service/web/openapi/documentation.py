"""GET /openapi.json and GET /docs: the description of the API, for programs and for people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec
from aiohttp import web

from usage_service.web.answers import Body, body_answer
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.gzipped import gzip_answer
from usage_service.web.openapi.document import openapi_document
from usage_service.web.openapi.operations import JSON, Content, Response, Route, described
from usage_service.web.openapi.reference_page import html_page, page_policy
from usage_service.web.openapi.schemas import JsonObject

HTML = "text/html"
HEADERS = ("ETag", "Cache-Control", "Vary")
NOT_MODIFIED = Response(304, "the caller has this answer already", (), HEADERS)


class Documentation:
    """Documentation of some routes, made at the first request for it."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @cached_property
    def _described(self) -> JsonObject:
        return openapi_document(self._routes)

    @cached_property
    def document(self) -> Body:
        """Return the OpenAPI document as JSON."""
        return Body(msgspec.json.encode(self._described), JSON)

    @cached_property
    def page(self) -> Body:
        """Return the reference as an HTML page."""
        return Body(html_page(self._described).encode(), HTML)


DOCUMENTATION = web.AppKey("documentation", Documentation)


@described(Response(200, "the document", (Content(JSON, dict[str, Any]),), HEADERS), NOT_MODIFIED)
async def get_openapi(request: web.Request) -> web.Response:
    """Get the OpenAPI 3.1 document of the service."""
    return await _answer(request, request.app[DOCUMENTATION].document, {})


@described(Response(200, "the page", (Content(HTML, str),), HEADERS), NOT_MODIFIED)
async def get_docs(request: web.Request) -> web.Response:
    """Get the reference of the API as an HTML page, which loads nothing else."""
    return await _answer(request, request.app[DOCUMENTATION].page, {"Content-Security-Policy": page_policy()})


async def _answer(request: web.Request, body: Body, headers: dict[str, str]) -> web.Response:
    tag = entity_tag("documentation", request.path, body.data)
    headers |= {"ETag": tag, "Cache-Control": "no-cache"}
    if is_matched(request.headers.getall("If-None-Match", ()), tag):
        return await gzip_answer(request, web.Response(status=304, headers=headers))
    return await gzip_answer(request, body_answer(body, headers=headers))
