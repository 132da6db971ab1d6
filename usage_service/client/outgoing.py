"""An event as the client writes it: one line of JSON, under an id that rises with time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from usage_service.event_decoding import UnusableEventError, decode_event, encode_data
from usage_service.events import AnyEvent
from usage_service.problems import field_error

MOST_EVENT_BYTES = 64 * 1024  # above anything that the service takes; keeps one event from filling a request


class WrongEventError(ValueError):
    """An event that the service would not take. The message names the field and the fix, and quotes no value.

    `is_too_long` tells one that is well-formed but too long.
    """

    def __init__(self, message: str, *, is_too_long: bool = False) -> None:
        super().__init__(message)
        self.is_too_long = is_too_long


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
    """Return the event as JSON and a line feed. Raise WrongEventError when it cannot be JSON or is too long."""
    try:
        line = _encode(event) + b"\n"
    except Exception as error:
        # Not only TypeError: encoding runs properties and iterators of the app's own objects.
        raise WrongEventError(f"{_unwritable(event)} cannot be written as JSON: {type(error).__name__}") from error
    if len(line) > MOST_EVENT_BYTES:
        raise WrongEventError(f"the event is {len(line)} bytes long; at most {MOST_EVENT_BYTES}", is_too_long=True)
    return line


def check_line(line: bytes) -> None:
    """Raise WrongEventError for an event that the service refuses for what it is."""
    try:
        encode_data(decode_event(line))
    except msgspec.ValidationError as error:
        wrong = field_error(error, AnyEvent)
    except UnusableEventError as error:
        wrong = error.error
    else:
        return
    raise WrongEventError(f"{wrong.pointer or 'the event'}: {wrong.detail}")


def _unwritable(event: Outgoing) -> str:
    """Return the field that cannot be written."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "data"}
    fields |= {f"data.{name}": value for name, value in (event.data or {}).items()}
    for name, value in fields.items():
        try:
            _encode(value)
        except Exception:
            return name
    return "the event"


def is_readable(line: bytes) -> bool:
    """Return whether a line from disk is an event as this client writes them."""
    try:
        _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
