"""An event as the client writes it: one line of JSON, under an id that rises with time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

MOST_EVENT_BYTES = 64 * 1024  # above anything that the service takes; keeps one event from filling a request


class UnfitEventError(Exception):
    """The event cannot be written; the message says why and holds nothing of the visitor."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that every event has on the wire; whether they are valid is for the service to say."""

    event_id: str
    type: str
    occurred_at: datetime
    visitor: str | None = None
    product: str | None = None
    channel: str | None = None
    probe: str | None = None
    data: Mapping[str, object] | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Outgoing)


def new_event_id() -> UUID:
    """Make a UUID version 7 (RFC 9562, 5.7): 48 bits of milliseconds since 1970, then random ones.

    Ids that rise with time let the log's index of ids grow at one end, however long it is.
    """
    stamped = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=stamped & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def encode_line(event: Outgoing) -> bytes:
    """Return the event as JSON and a line feed. Raise UnfitEventError when it cannot be JSON or is too long."""
    try:
        line = _encode(event) + b"\n"
    except Exception as error:
        # Not only TypeError: encoding runs properties and iterators of the app's own objects.
        raise UnfitEventError(f"cannot be written as JSON: {type(error).__name__}") from error
    if len(line) > MOST_EVENT_BYTES:
        raise UnfitEventError(f"is {len(line)} bytes long; at most {MOST_EVENT_BYTES}")
    return line


def with_zone(instant: datetime | None) -> datetime:
    """Return the instant with a zone, or now for None; without a zone it is local time, as everywhere in Python."""
    if instant is None:
        return datetime.now(UTC)
    return instant if instant.tzinfo else instant.astimezone()


def is_readable(line: bytes) -> bool:
    """Return whether a line from disk is an event as this client writes them."""
    try:
        _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
