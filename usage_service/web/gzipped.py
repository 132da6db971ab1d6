"""Compression: answers as gzip for clients that accept it. GLAM's ETL decompresses without reading the header."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web

LEVEL = 5  # takes a third of the time of the slowest level, for a few percent more bytes


def takes_gzip(request: web.Request) -> bool:
    """Return whether Accept-Encoding accepts gzip by name (RFC 9110 12.5.3)."""
    for offer in ",".join(request.headers.getall("Accept-Encoding", ())).split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def compressed(data: bytes) -> bytes:
    """Return the data as gzip; equal data gives equal bytes."""
    return gzip.compress(data, LEVEL, mtime=0)


def add_encoding_headers(answer: web.Response, is_gzip: bool) -> web.Response:
    """Add Vary, and Content-Encoding when the body is gzip."""
    if is_gzip:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers.add("Vary", "Accept-Encoding")
    return answer


async def gzip_answer(request: web.Request, answer: web.Response) -> web.Response:
    """Return the answer, compressed when the caller accepts gzip; its entity tag is weak, as the bytes may differ."""
    body = answer.body
    wanted = isinstance(body, bytes) and bool(body) and takes_gzip(request)
    if isinstance(body, bytes) and wanted:
        answer.body = await asyncio.to_thread(compressed, body)
    tag = answer.headers.get("ETag", "")
    if tag.startswith('"'):
        answer.headers["ETag"] = f"W/{tag}"
    return add_encoding_headers(answer, wanted)
