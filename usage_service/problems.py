"""What is wrong with an input, in words that name the field and the fix (RFC 9457)."""

from __future__ import annotations

import re

import msgspec

_FIELD = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)

# What decoding raises, besides ValidationError, for bytes that are not JSON (or more than can be read).
NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field that is wrong: a JSON Pointer into the body, or the name of a query parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong, and with which fields; some problems have members of their own."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):
    """An answer that is not what was asked for; the server sends it as application/problem+json."""

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


def field_error(error: msgspec.ValidationError, known: tuple[str, ...] = ()) -> FieldError:
    """Where msgspec's complaint points, as a JSON Pointer (RFC 6901), and what it says."""
    what, _, path = str(error).partition(" - at `$")
    pointer = _pointer(path.removesuffix("`"))
    named = _FIELD.fullmatch(what)
    if named is None:
        return FieldError(detail=what, pointer=pointer)
    pointer += "/" + named["name"].replace("~", "~0").replace("/", "~1")
    if named["how"] == "missing required":
        return FieldError(detail="is missing", pointer=pointer)
    return FieldError(detail="is not known" + (f"; there are {', '.join(known)}" if known else ""), pointer=pointer)


def _pointer(path: str) -> str:
    # msgspec does not tell which key of a mapping `[...]` is: the pointer ends at the mapping.
    return re.sub(r"\[(\d+)\]", r".\1", path.partition("[...]")[0]).replace(".", "/")


def not_json(error: Exception) -> str:
    """Why bytes are not JSON, of an error that is one of NOT_JSON."""
    if isinstance(error, RecursionError):
        return "not JSON that can be read: it is nested too deeply"
    return f"not JSON in UTF-8: {error}"


def invalid(errors: list[FieldError]) -> Problem:
    """422: well-formed, but not what this route takes."""
    named = [f"{error.parameter or error.pointer or 'body'}: {error.detail}" for error in errors]
    return Problem(422, "Invalid input", "; ".join(named), errors)
