"""An event as the client writes it: one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

MOST_EVENT_BYTES = 64 * 1024  # above anything that the service takes; keeps one event from filling a request


class UnfitEventError(Exception):
    """The event cannot be written; the message says why and holds nothing of the visitor."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event has on the wire; the service judges the rest."""

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


def encode_line(event: Outgoing) -> bytes:
    """The event and a line feed; raises UnfitEventError."""
    try:
        line = _encode(event) + b"\n"
    except Exception as error:
        # Not only TypeError: encoding runs properties and iterators of the app's own objects.
        raise UnfitEventError(f"cannot be written as JSON: {type(error).__name__}") from error
    if len(line) > MOST_EVENT_BYTES:
        raise UnfitEventError(f"is {len(line)} bytes long; at most {MOST_EVENT_BYTES}")
    return line


def with_zone(instant: datetime | None) -> datetime:
    """Now, or the instant; one without a zone is local time, as everywhere in Python."""
    if instant is None:
        return datetime.now(UTC)
    return instant if instant.tzinfo else instant.astimezone()


def is_readable(line: bytes) -> bool:
    """Whether a line from disk is an event as this client writes them."""
    try:
        _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
