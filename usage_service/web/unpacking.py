"""Bodies that come packed: unpacked whole or refused, and never to more than a body may be."""

from __future__ import annotations

import zlib

from aiohttp import web

from usage_service.problems import Problem

# The window bits by which zlib knows RFC 1952 and RFC 1950. Of several members one after the other only one is taken:
# a million of them would take minutes.
WINDOW_BITS = {"gzip": 31, "deflate": 15}
PLAIN = "identity"
ENCODINGS = (PLAIN, *WINDOW_BITS)


def encoding_of(request: web.Request) -> str:
    """The body's encoding; raises 415 for one that is not undone here."""
    encoding = request.headers.get("Content-Encoding", PLAIN).lower()
    if encoding not in ENCODINGS:
        raise Problem(415, "Unsupported encoding", f"Content-Encoding {encoding} is not taken; send gzip or none")
    return encoding


def unpacked(data: bytes, encoding: str, most_bytes: int) -> bytes:
    """The data without its encoding; raises 400 for what is cut short or damaged, 413 for what would be larger."""
    if encoding == PLAIN:
        return data
    unpacker = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        body = unpacker.decompress(data, most_bytes + 1)
    except zlib.error as error:
        raise _unreadable(f"it is not {encoding} ({error})") from None
    if len(body) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(most_bytes, len(body))
    if not unpacker.eof:
        raise _unreadable(f"its {encoding} is cut short")
    if unpacker.unused_data:
        raise _unreadable(f"more follows after the end of its {encoding}")
    return body


def _unreadable(why: str) -> Problem:
    return Problem(400, "Bad request body", f"the body cannot be read: {why}")
