"""Texts from outside: settings and parameters, read as the fields of a struct; and the one that no database stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

Kind = TypeVar("Kind", bound=msgspec.Struct)
NUL = "\x00"
NUL_REFUSED = "holds a NUL character, which PostgreSQL does not store"


def read_texts(given: Mapping[str, object], kind: type[Kind]) -> Kind:
    """Return texts by name as a `kind`; raise ValidationError, which names the field.

    msgspec reads the text `null` as no value at all. Here it is a text, and refused where no text may be.
    """
    values = msgspec.convert(given, kind, strict=False)
    texts: dict[str, object] = {}
    for one in msgspec.structs.fields(kind):
        text = given.get(one.encode_name)
        if isinstance(text, str) and getattr(values, one.name) is None:
            try:
                texts[one.name] = msgspec.convert(text, one.type, strict=True)
            except msgspec.ValidationError as error:
                raise msgspec.ValidationError(f"{error} - at `$.{one.encode_name}`") from None
    return msgspec.structs.replace(values, **texts) if texts else values


def has_nul(value: object) -> bool:
    """Return whether a JSON value holds a NUL character, in a text or a name."""
    if isinstance(value, str):
        return NUL in value
    if isinstance(value, dict):
        return any(has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(has_nul, value))
