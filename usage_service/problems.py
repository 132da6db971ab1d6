"""What is wrong with an input, in words that name the field and the fix (RFC 9457)."""

from __future__ import annotations

import re

import msgspec

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"field `([^`]+)`")


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field that is wrong: a JSON Pointer into the body, or the name of a query parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


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
        self.body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
        if errors:
            self.body["errors"] = [msgspec.to_builtins(error) for error in errors]


def field_error(error: msgspec.ValidationError, known: tuple[str, ...] = ()) -> FieldError:
    """Where msgspec's complaint points, as a JSON Pointer, and what it says."""
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
    named = _FIELD.search(what)
    if named and ("missing" in what or "unknown" in what):
        path = f"{path}.{named[1]}"
        what = (
            "is missing" if "missing" in what else "is not known" + (f"; there are {', '.join(known)}" if known else "")
        )
    pointer = re.sub(r"\[(\.\.\.|\d+)\]", r"/\1", path.removeprefix("$")).replace(".", "/").replace("//////", "/...")
    return FieldError(detail=what, pointer=pointer)


def invalid(errors: list[FieldError]) -> Problem:
    """422: well-formed, but not what this route takes."""
    named = [f"{error.parameter or error.pointer or 'body'}: {error.detail}" for error in errors]
    return Problem(422, "Invalid input", "; ".join(named), errors)
