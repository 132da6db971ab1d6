"""Answers packed as gzip for who takes it: GLAM's ETL unpacks what it gets without a look at its header."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web

LEVEL = 5  # the last one that costs a third of the slowest and packs to within a few percent of it


def takes_gzip(request: web.Request) -> bool:
    """Whether the caller's Accept-Encoding names gzip, and not to refuse it (RFC 9110 12.5.3)."""
    for offer in ",".join(request.headers.getall("Accept-Encoding", ())).split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def packed(data: bytes) -> bytes:
    """The same bytes always packed to the same bytes."""
    return gzip.compress(data, LEVEL, mtime=0)


def mark_gzip(answer: web.Response, is_packed: bool) -> web.Response:
    """Says that the body is packed, and that another caller may get it otherwise."""
    if is_packed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers.add("Vary", "Accept-Encoding")
    return answer


async def gzip_answer(request: web.Request, answer: web.Response) -> web.Response:
    """The answer, packed if the caller takes that."""
    wanted = takes_gzip(request)
    if wanted and isinstance(answer.body, bytes):
        answer.body = await asyncio.to_thread(packed, answer.body)
    return mark_gzip(answer, wanted)
