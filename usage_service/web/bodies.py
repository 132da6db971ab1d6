"""Bodies of requests: read in time, decompressed within the size limit, and decoded."""

from __future__ import annotations

import asyncio
import zlib
from datetime import datetime
from typing import TypeVar

import msgspec
from aiohttp import web

from usage_service.problems import NOT_JSON, FieldError, Problem, field_error, invalid, not_json
from usage_service.windows import checked_time

Kind = TypeVar("Kind", bound=msgspec.Struct)

BODY_SECONDS = 30.0
MOST_BODY_BYTES = 1024 * 1024
# The window bits by which zlib knows RFC 1952 and RFC 1950. Of several gzip members only the first is accepted: a
# million of them would take minutes.
WINDOW_BITS = {"gzip": 31, "deflate": 15}
PLAIN = "identity"
EXPECTATION = web.RequestKey("expectation", str)  # the header Expect, which `connections` takes away from aiohttp
GO_ON = "100-continue"
ENCODINGS = (PLAIN, *WINDOW_BITS)


async def json_body(request: web.Request, kind: type[Kind]) -> Kind:
    """Return the body as a `kind`; raise a Problem: 415, 400 or 422."""
    if request.content_type != "application/json":
        raise Problem(415, "Unsupported media type", "send Content-Type: application/json")
    body = await read_body(request)
    try:
        decoded = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid([field_error(error, kind)]) from None
    except NOT_JSON as error:
        raise Problem(400, "Not JSON", f"the body is {not_json(error)}") from None
    _check_times(decoded)
    return decoded


def _check_times(decoded: msgspec.Struct) -> None:
    for name, value in msgspec.structs.asdict(decoded).items():
        if isinstance(value, datetime):
            try:
                checked_time(value)
            except ValueError as error:
                raise invalid([FieldError(pointer=f"/{name}", detail=str(error))]) from None


async def read_body(request: web.Request) -> bytes:
    """Return the body, decompressed.

    Raise a Problem: 413 or 415 when it is too large or its encoding is not supported, 400 or 408 when it is incomplete.
    """
    encoding = _encoding_of(request)
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MOST_BODY_BYTES, request.content_length or 0)
    if request.pop(EXPECTATION, None):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # else aiohttp takes it for an answer that has begun
    try:
        return decompressed(await _received(request), encoding, MOST_BODY_BYTES)
    except TimeoutError:
        raise Problem(408, "Body too slow", f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except OSError:  # the client's connection, not the database's
        raise Problem(400, "Body broken off", "the connection ended before the body did") from None


async def _received(request: web.Request) -> bytes:
    if request.content.is_eof():  # as nearly always of a single event: there is nothing to wait for
        return await request.read()
    async with asyncio.timeout(BODY_SECONDS):
        return await request.read()


def _encoding_of(request: web.Request) -> str:
    encoding = request.headers.get("Content-Encoding", PLAIN).lower()
    if encoding not in ENCODINGS:
        raise Problem(415, "Unsupported encoding", f"Content-Encoding {encoding} is not taken; send gzip or none")
    return encoding


def decompressed(data: bytes, encoding: str, most_bytes: int) -> bytes:
    """Return the data without its encoding; raise 400 when it is cut short or damaged, 413 when it is too large."""
    if encoding == PLAIN:
        return data
    decompressor = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        body = decompressor.decompress(data, most_bytes + 1)
    except zlib.error as error:
        raise _unreadable(f"it is not {encoding} ({error})") from None
    if len(body) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(most_bytes, len(body))
    if not decompressor.eof:
        raise _unreadable(f"its {encoding} is cut short")
    if decompressor.unused_data:
        raise _unreadable(f"more follows after the end of its {encoding}")
    return body


def _unreadable(why: str) -> Problem:
    return Problem(400, "Bad request body", f"the body cannot be read: {why}")
