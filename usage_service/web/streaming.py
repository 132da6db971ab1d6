"""Streams: answers sent piece by piece, because they are too large to be held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import structlog
from aiohttp import web
from aiohttp.web import ContentCoding

from usage_service.web.paths import logged_path

WRITE_SECONDS = 60.0  # for a client to read a piece of a few MB

log = structlog.get_logger(__name__)


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
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        log.info("reader_gone", path=logged_path(request))
        abort(request)  # it may be the database's
    except Exception:
        # Too late for a status: only a broken connection tells the reader that this is not all.
        log.exception("stream_broken", path=logged_path(request))
        abort(request)
    return response


def abort(request: web.Request) -> None:
    """Abort the connection."""
    if request.transport:
        request.transport.abort()
