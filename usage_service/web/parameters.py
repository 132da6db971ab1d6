"""Query parameters and bodies as typed structs; what does not fit is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import web

from usage_service.cursors import Cursor
from usage_service.problems import NOT_JSON, FieldError, Problem, field_error, invalid, not_json
from usage_service.web.unpacking import encoding_of, unpacked

Kind = TypeVar("Kind", bound=msgspec.Struct)
Place = TypeVar("Place", bound=Cursor)

BODY_SECONDS = 30.0
MOST_BODY_BYTES = 1024 * 1024
# Far enough from the ends of the calendar for any window to be counted from them.
FIRST_INSTANT, LAST_INSTANT = datetime(1900, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def query_parameters(request: web.Request, kind: type[Kind]) -> Kind:
    """The query string as `kind`, tuples being of parameters that may be repeated.

    Raises 422 naming the parameter that is unknown, repeated or wrong.
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
    """The same of path or header values."""
    try:
        parameters = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        found = field_error(error, kind.__struct_encode_fields__)
        name = (found.pointer or "").removeprefix("/").partition("/")[0].replace("~1", "/").replace("~0", "~")
        raise invalid([FieldError(parameter=name, detail=_choices(kind, name) or found.detail)]) from None
    _check_instants(parameters)
    return parameters


def cursor_of(text: str | None, kind: type[Place]) -> Place | None:
    """Where the page begins; raises 422 for what no link to a next page had."""
    try:
        return kind.parse(text) if text else None
    except ValueError:
        raise invalid([FieldError(parameter="cursor", detail="is not one of a link to the next page")]) from None


def _choices(kind: type[msgspec.Struct], name: str) -> str | None:
    hint = get_type_hints(kind).get(name)
    return f"must be one of {', '.join(get_args(hint))}" if get_origin(hint) is Literal else None


def _check_instants(parameters: msgspec.Struct) -> None:
    for name, value in msgspec.structs.asdict(parameters).items():
        if isinstance(value, datetime) and not FIRST_INSTANT <= value <= LAST_INSTANT:
            detail = f"must be between {FIRST_INSTANT:%Y-%m-%d} and {LAST_INSTANT:%Y-%m-%d}"
            raise invalid([FieldError(parameter=name, detail=detail)])


async def json_body(request: web.Request, kind: type[Kind]) -> Kind:
    """The body as `kind`; raises 415, 400 or 422."""
    if request.content_type != "application/json":
        raise Problem(415, "Unsupported media type", "send Content-Type: application/json")
    body = await read_body(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid([field_error(error, kind.__struct_encode_fields__)]) from None
    except NOT_JSON as error:
        raise Problem(400, "Not JSON", f"the body is {not_json(error)}") from None


async def read_body(request: web.Request) -> bytes:
    """The body, unpacked; raises 413 and 415 for what is not taken, 400 and 408 for what does not arrive whole."""
    encoding = encoding_of(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return unpacked(await request.read(), encoding, MOST_BODY_BYTES)
    except TimeoutError:
        raise Problem(408, "Body too slow", f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except OSError:  # the client's connection, not the database's
        raise Problem(400, "Body broken off", "the connection ended before the body did") from None
