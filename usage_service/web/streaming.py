"""Streams: answers sent piece by piece, because they are too large to be held in memory, or not known yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial

import structlog
from aiohttp import web
from aiohttp.web import ContentCoding

from usage_service.shared.postgres import UNAVAILABLE
from usage_service.web.access import ACCESS
from usage_service.web.paths import logged_path
from usage_service.web.waiting import CHECK_SECONDS, checked

WRITE_SECONDS = 60.0  # for a client to read a piece of a few MB

log = structlog.get_logger(__name__)


class ReaderGoneError(Exception):
    """Reader that has left, takes nothing, or may read no more."""


async def stream_answer(
    request: web.Request,
    content_type: str,
    end: int,
    pieces: AsyncGenerator[bytes, None],
    *,
    headers: Mapping[str, str] | None = None,
    as_gzip: bool = False,
) -> web.StreamResponse:
    """Stream the pieces (200) up to log position `end`; abort the connection when a piece cannot be made."""
    sent = {"Content-Type": content_type, "Log-Position": str(end), **(headers or {})}
    response = web.StreamResponse(headers=sent)
    if as_gzip and request.method == "HEAD":
        response.headers["Content-Encoding"] = "gzip"  # compression would send the end of an empty gzip
    elif as_gzip:
        response.enable_compression(ContentCoding.gzip)
    return await send(request, response, pieces)


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send the pieces, as long as somebody reads who may; abort the connection then, or when one cannot be made."""
    try:
        async with _taken():
            await response.prepare(request)
        if request.method == "HEAD":
            return response
        async with aclosing(pieces):
            while (piece := await checked(anext(pieces, None), partial(_require_reader, request))) is not None:
                async with _taken():
                    await response.write(piece)
        async with _taken():
            await response.write_eof()
    except ReaderGoneError as error:
        log.info("reader_gone", path=logged_path(request), reason=str(error))
        _abort(request)
    except Exception:
        # Too late for a status: only a broken connection tells the reader that this is not all.
        log.exception("stream_broken", path=logged_path(request))
        _abort(request)
    return response


async def _require_reader(request: web.Request) -> None:
    """Raise ReaderGoneError when nobody reads, or nobody who still may; wait while the database does not say."""
    while request.transport is not None:
        try:
            if await request.app[ACCESS].still_opens(request):
                return
        except UNAVAILABLE:
            await asyncio.sleep(CHECK_SECONDS)
        else:
            raise ReaderGoneError("its token or session is not valid any more")
    raise ReaderGoneError("it has left")


@asynccontextmanager
async def _taken() -> AsyncIterator[None]:
    """Raise ReaderGoneError where what is sent is not taken in time."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            yield
    except OSError as error:  # TimeoutError, too
        raise ReaderGoneError(f"it takes nothing: {error!r}") from None


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()
