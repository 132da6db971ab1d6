"""Query parameters and bodies as typed structs; what does not fit is named."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from usage_service.problems import FieldError, Problem, field_error, invalid

Kind = TypeVar("Kind", bound=msgspec.Struct)


def query_parameters(request: web.Request, kind: type[Kind]) -> Kind:
    """The query string as `kind`; raises 422 naming the parameter that is unknown, repeated or wrong."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise invalid([FieldError(parameter=name, detail="is given twice")])
        given[name] = value
    return parameters_from(given, kind)


def parameters_from(given: dict[str, str], kind: type[Kind]) -> Kind:
    """The same of path or header values."""
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        found = field_error(error, kind.__struct_encode_fields__)
        name = (found.pointer or "").strip("/") or None
        raise invalid([FieldError(parameter=name, detail=found.detail)]) from None


async def json_body(request: web.Request, kind: type[Kind]) -> Kind:
    """The body as `kind`; raises 415, 400 or 422."""
    if request.content_type != "application/json":
        raise Problem(415, "Unsupported media type", "send Content-Type: application/json")
    check_encoding(request)
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.ValidationError as error:
        raise invalid([field_error(error, kind.__struct_encode_fields__)]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON: {error}") from None


def check_encoding(request: web.Request) -> None:
    """Raises 415 for a Content-Encoding that is not undone here."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise Problem(415, "Unsupported encoding", f"Content-Encoding {encoding} is not taken; send gzip or none")
