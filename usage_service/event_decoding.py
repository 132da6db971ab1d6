"""Decoding of one event: which of the types it is, with all of their limits, and its own fields as they are stored."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from usage_service.events import EARLIEST, EVENT_TYPES, OWN_TYPES, AnyEvent, ExtensionEvent
from usage_service.problems import NOT_JSON, FieldError, not_json
from usage_service.shared.texts import NUL_REFUSED, has_nul

MOST_EXTENSION_BYTES = 16 * 1024
LARGEST_SKEW = timedelta(hours=24)
DEEPEST_EXTENSION = 64  # well below what readers of the log can decode


class _Type(msgspec.Struct):
    type: object = None


_typed = msgspec.json.Decoder(AnyEvent)
_extension = msgspec.json.Decoder(ExtensionEvent)
_type = msgspec.json.Decoder(_Type)
encode_sorted = msgspec.json.Encoder(order="sorted").encode


class UnusableEventError(Exception):
    """An event is of the right types but cannot be recorded."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.error = FieldError(detail=detail, pointer=pointer)


def decode_event(raw: bytes | msgspec.Raw) -> AnyEvent | ExtensionEvent:
    """Decode one event. Raise msgspec.ValidationError or UnusableEventError."""
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        raise
    except NOT_JSON as error:
        raise UnusableEventError("", f"is {not_json(error)}") from None


def _decode(raw: bytes | msgspec.Raw) -> AnyEvent | ExtensionEvent:
    try:
        event: AnyEvent = _typed.decode(raw)
    except msgspec.ValidationError:
        kind = _type.decode(raw).type
        if isinstance(kind, str) and kind.startswith("x_"):
            return _extension.decode(raw)
        if not isinstance(kind, str) or kind not in EVENT_TYPES:
            raise UnusableEventError("/type", unknown_type(kind)) from None
        raise
    return event


def check_instant(instant: datetime, now: datetime, mend: str = "check the time and its zone") -> None:
    """Raise UnusableEventError for an instant that is before all events, or too far ahead of the clock."""
    if instant > now + LARGEST_SKEW:
        raise UnusableEventError("/occurred_at", f"is more than 24 hours ahead of the server's clock; {mend}")
    if instant < EARLIEST:
        raise UnusableEventError("/occurred_at", f"is before {EARLIEST:%Y-%m-%d}")


def type_of(event: AnyEvent | ExtensionEvent) -> str:
    """Return the event's type by its name on the wire."""
    return event.type if isinstance(event, ExtensionEvent) else str(event.__struct_config__.tag)


def encode_data(event: AnyEvent | ExtensionEvent) -> bytes:
    """Encode the event's own fields as compact JSON, keys in a fixed order, without fields at their default."""
    if not isinstance(event, ExtensionEvent):
        return encode_sorted(event.data)
    check_depth(event.data)
    encoded = encode_sorted(event.data)
    if len(encoded) > MOST_EXTENSION_BYTES:
        raise UnusableEventError("/data", f"is {len(encoded)} bytes long; at most {MOST_EXTENSION_BYTES}")
    if b"\\u0000" in encoded:
        check_characters(event.data)
    return encoded


def check_depth(data: object) -> None:
    """Raise UnusableEventError for data that readers of the log could not decode."""
    if _depth(data) > DEEPEST_EXTENSION:
        raise UnusableEventError("/data", f"is nested too deeply; at most {DEEPEST_EXTENSION} levels")


def check_characters(data: object) -> None:
    """Raise UnusableEventError for data that PostgreSQL cannot store."""
    if has_nul(data):
        raise UnusableEventError("/data", NUL_REFUSED)


def _depth(data: object) -> int:
    level, depth = [data], 0
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
    return depth


def unknown_type(kind: object) -> str:
    """Return what is wrong with a type that may not be posted."""
    if isinstance(kind, str) and kind in OWN_TYPES:
        return f"{kind} is written by the service itself"
    return f"must be one of {', '.join(EVENT_TYPES)}, or x_... for a type of your own"
