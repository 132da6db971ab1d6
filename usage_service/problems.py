"""Problem details (RFC 9457): errors of an input, in words that name the field and the fix."""

from __future__ import annotations

import re

import msgspec

from usage_service.shared.kinds import choices_at, names_at
from usage_service.shared.patterns import in_words

_FIELD = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)

# Raised by decoding, besides ValidationError, for bytes that are not JSON or nested too deeply.
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Error of one field: its JSON Pointer into the body, or the name of its query parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details object with the errors of fields; some problems have further members."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):
    """Error that the server answers as application/problem+json."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        details = ProblemDetails("about:blank", title, status, detail, errors or [])
        self.body: dict[str, object] = msgspec.to_builtins(details) | members


def field_error(error: msgspec.ValidationError, kind: object = None) -> FieldError:
    """Return msgspec's error with its path as a JSON Pointer (RFC 6901); `kind` is the type of the whole.

    It tells which fields there are, and what to choose from.
    """
    what, _, path = in_words(str(error)).partition(" - at `$")
    pointer = _pointer(path.removesuffix("`"))
    places = pointer.split("/")[1:]
    named = _FIELD.fullmatch(what)
    if named is None:
        choices = choices_at(kind, places) if what.startswith("Invalid enum value") else ()
        return FieldError(detail=f"must be one of {', '.join(choices)}" if choices else what, pointer=pointer)
    pointer += "/" + named["name"].replace("~", "~0").replace("/", "~1")
    if named["how"] == "missing required":
        return FieldError(detail="is missing", pointer=pointer)
    known = names_at(kind, places)
    return FieldError(detail="is not known" + (f"; there are {', '.join(known)}" if known else ""), pointer=pointer)


def _pointer(path: str) -> str:
    # msgspec names no key of a mapping, only `[...]`: the pointer ends at the mapping.
    return re.sub(r"\[(\d+)\]", r".\1", path.partition("[...]")[0]).replace(".", "/")


def not_json(error: Exception) -> str:
    """Return in words why bytes are not JSON; `error` is one of NOT_JSON."""
    if isinstance(error, RecursionError):
        return "not JSON that can be read: it is nested too deeply"
    return f"not JSON in UTF-8: {error}"


def invalid(errors: list[FieldError]) -> Problem:
    """Return the problem of a well-formed but invalid input, with status 422."""
    named = [f"{error.parameter or error.pointer or 'body'}: {error.detail}" for error in errors]
    return Problem(422, "Invalid input", "; ".join(named), errors)
