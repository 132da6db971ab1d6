"""GET /assets/{digest}/{name}: style, script and charts of the pages."""

from __future__ import annotations

import asyncio
import gzip

import structlog
from aiohttp import web

from usage_service.problems import Problem
from usage_service.web.gzipped import add_encoding_headers, gzip_answer, takes_gzip
from usage_service.web.pages.presentation.assets import VEGA, asset, is_current, type_of
from usage_service.web.pages.presentation.vega import Vega, VegaError

log = structlog.get_logger(__name__)

VEGA_SCRIPT = web.AppKey("vega_script", Vega)
AFTER_SECONDS = 10.0  # first the server answers the requests that wait for its start
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}


async def make_charts(app: web.Application) -> None:
    """Make the charts' script before the first request for it; after a failure the request makes it."""
    await asyncio.sleep(AFTER_SECONDS)
    try:
        await app[VEGA_SCRIPT].packed()
    except (VegaError, OSError) as error:
        log.warning("charts_not_made", error=str(error))


async def get_asset(request: web.Request) -> web.StreamResponse:
    """Answer with a file, to be cached for ever; raise a Problem (404) for a file of another version."""
    digest, name = request.match_info["digest"], request.match_info["name"]
    if not is_current(digest, name):
        raise Problem(404, "Not found", "there is no such file in this version; load the page again")
    if name == VEGA:
        return await _vega(request)
    answer = web.Response(body=asset(name), content_type=type_of(name), charset="utf-8", headers=IMMUTABLE)
    return await gzip_answer(request, answer)


async def _vega(request: web.Request) -> web.Response:
    try:
        packed = await request.app[VEGA_SCRIPT].packed()
    except VegaError as error:
        raise Problem(503, "No charts", str(error), headers={"Retry-After": "30"}) from None
    wanted = takes_gzip(request)
    body = packed if wanted else gzip.decompress(packed)
    answer = web.Response(body=body, content_type=type_of(VEGA), charset="utf-8", headers=IMMUTABLE)
    return add_encoding_headers(answer, wanted)
