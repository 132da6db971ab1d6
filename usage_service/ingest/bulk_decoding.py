"""Decoding of all events of a body in one call, by types without the patterns that take most of that time.

Most patterns say that a text has no NUL, which the body as a whole tells; the others are those of the names of what an
event is about, which come again and again. A body in which anything is not well-formed is refused as a whole: each of
its events has to be decoded by the types of `usage_service.events` then, which say what is wrong with it.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from usage_service.events import NO_NUL, AnyEvent, Channel, Data, Event, Instant, ProbeName, Product

MOST_REMEMBERED = 8_192  # products, channels and probes that came together: 5 MB at most
NULS = (b"\\u0000", b"\0")  # JSON has no other way to write one


class _Names(msgspec.Struct):
    product: Product | None
    channel: Channel | None
    probe: ProbeName | None


NAMES = (Product, Channel, ProbeName)


class DecodedEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """Events that are decoded already, with the sender's clock at the time of sending."""

    events: list[AnyEvent]
    sent_at: Instant | None = None


def decode_list(body: bytes) -> DecodedEnvelope:
    """Decode an array of events. Raise msgspec.MsgspecError or UnicodeError unless all are well-formed."""
    return _checked(body, DecodedEnvelope(_list.decode(body)))


def decode_one(body: bytes) -> DecodedEnvelope:
    """Decode a bare event. Raise as `decode_list`."""
    return _checked(body, DecodedEnvelope([_one.decode(body)]))


def decode_envelope(body: bytes) -> DecodedEnvelope:
    """Decode an envelope. Raise as `decode_list`."""
    return _checked(body, _envelope.decode(body))


def _checked(body: bytes, envelope: DecodedEnvelope) -> DecodedEnvelope:
    """Return the envelope. Raise msgspec.ValidationError where one of its texts does not match its pattern."""
    if any(nul in body for nul in NULS):
        raise msgspec.ValidationError("a text may have a NUL")
    for event in envelope.events:
        _check_names(event.product, event.channel, event.probe)
    return envelope


@lru_cache(MOST_REMEMBERED)
def _check_names(product: str | None, channel: str | None, probe: str | None) -> None:
    msgspec.convert({"product": product, "channel": channel, "probe": probe}, _Names)


def _plain(kind: object) -> object:
    """Return a type without the patterns that are checked apart."""
    if kind in NAMES:
        return str
    if isinstance(kind, type) and issubclass(kind, Event | Data):
        return _plain_struct(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated.__class_getitem__((_plain(parts[0]), *map(_without_nul_pattern, parts[1:])))
    if origin in (UnionType, Union):
        return reduce(or_, map(_plain, parts))
    return GenericAlias(list, (_plain(parts[0]),)) if origin is list else kind


def _without_nul_pattern(limits: Meta) -> Meta:
    return Meta(min_length=limits.min_length, max_length=limits.max_length) if limits.pattern == NO_NUL else limits


def _plain_struct(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a subclass of a struct, its fields of types without those patterns."""
    hints = get_type_hints(kind, include_extras=True)
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        defaults = {"default": field.default, "default_factory": field.default_factory}
        fields.append((field.name, _plain(hints[field.name]), msgspec.field(**defaults)))
    tag = kind.__struct_config__.tag
    return msgspec.defstruct(kind.__name__, fields, bases=(kind,), kw_only=True, tag=tag)


_one: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(_plain(AnyEvent))
_list: msgspec.json.Decoder[list[AnyEvent]] = msgspec.json.Decoder(_plain(list[AnyEvent]))
_envelope: msgspec.json.Decoder[DecodedEnvelope] = msgspec.json.Decoder(_plain_struct(DecodedEnvelope))
