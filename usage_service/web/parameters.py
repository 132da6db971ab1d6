"""Query and path parameters as typed structs; a wrong parameter is named in the problem."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TypeVar, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import web

from usage_service.cursors import Cursor
from usage_service.problems import FieldError, field_error, invalid
from usage_service.shared.texts import read_texts
from usage_service.windows import time_of

Kind = TypeVar("Kind", bound=msgspec.Struct)
Place = TypeVar("Place", bound=Cursor)


def query_parameters(request: web.Request, kind: type[Kind]) -> Kind:
    """Return the query string as a `kind`; a field that is a tuple takes a parameter that may be repeated.

    Raise a Problem (422) that names the parameter that is unknown, repeated or wrong.
    """
    hints = get_type_hints(kind)
    given: dict[str, object] = {}
    for name in request.query:
        values = request.query.getall(name)
        repeatable = get_origin(hints.get(name)) is tuple
        if len(values) > 1 and not repeatable:
            raise invalid([FieldError(parameter=name, detail="is given twice")])
        given[name] = values if repeatable else values[0]
    return parameters_from(given, kind)


def parameters_from(given: Mapping[str, object], kind: type[Kind]) -> Kind:
    """Return values of a query or path as a `kind`; raise a Problem (422) that names the wrong one.

    A day (`2026-11-01`) stands for its first instant in UTC.
    """
    try:
        return read_texts(_times_read(given, kind), kind)
    except msgspec.ValidationError as error:
        found = field_error(error, kind)
        name = (found.pointer or "").removeprefix("/").partition("/")[0].replace("~1", "/").replace("~0", "~")
        raise invalid([FieldError(parameter=name, detail=found.detail)]) from None


def _times_read(given: Mapping[str, object], kind: type[msgspec.Struct]) -> dict[str, object]:
    """Return the values with times for their texts; raise a Problem for what is none, such as a number."""
    read = dict(given)
    for name in _names_of_times(kind) & given.keys():
        try:
            read[name] = time_of(str(given[name]))
        except ValueError as error:
            raise invalid([FieldError(parameter=name, detail=str(error))]) from None
    return read


@cache
def _names_of_times(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind)
    fields = msgspec.structs.fields(kind)
    return frozenset(one.encode_name for one in fields if datetime in (hints[one.name], *get_args(hints[one.name])))


def cursor_of(text: str | None, kind: type[Place]) -> Place | None:
    """Return the cursor at which a listing goes on, or None; raise a Problem (422) when it is not well-formed."""
    try:
        return kind.parse(text) if text else None
    except ValueError:
        raise invalid([FieldError(parameter="cursor", detail="is not a cursor from a `next` link")]) from None
