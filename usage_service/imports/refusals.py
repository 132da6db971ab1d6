"""Refusals of lines, and of files of which nothing can be read."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from usage_service.problems import field_error
from usage_service.shared.errors import UserError


class UnreadableFileError(UserError):
    """Nothing of a file can be imported; the message says why and what can be."""


class Refusal(NamedTuple):
    """The reason why a line is refused, and the field that is wrong, where it is one field."""

    field: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


def refusal_of(error: msgspec.ValidationError, known: tuple[str, ...] = ()) -> Refusal:
    """Return the refusal of what msgspec does not take; `known` names the fields that there are."""
    wrong = field_error(error, known)
    return Refusal((wrong.pointer or "").lstrip("/") or None, wrong.detail)
