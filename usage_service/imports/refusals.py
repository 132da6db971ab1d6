"""Refusals of lines, and of files of which nothing can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from usage_service.problems import field_error
from usage_service.shared.errors import UserError

MOST_NAMED = 100  # characters of an entry's name
HALF_A_CHARACTER = "holds half a character (a lone surrogate)"
T = TypeVar("T")


class UnreadableFileError(UserError):
    """Nothing of a file can be imported; the message says why and what can be."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a line is refused, the field that is wrong, where it is one field, and the name of a named entry.

    All of them may be printed, whatever they repeat of the file.
    """

    field: str | None
    reason: str
    entry: str | None = None

    def __post_init__(self) -> None:
        """Escape what they repeat of the file."""
        object.__setattr__(self, "field", self.field and printable(self.field))
        object.__setattr__(self, "reason", printable(self.reason))
        object.__setattr__(self, "entry", self.entry and printable(self.entry[:MOST_NAMED]))

    @property
    def where(self) -> str | None:
        """Return the entry and the field, as far as there are any."""
        return "/".join(filter(None, (self.entry, self.field))) or None

    @property
    def kind(self) -> str:
        """Return what many lines are refused for: the field and the reason."""
        return f"{self.field}: {self.reason}" if self.field else self.reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def printable(text: str) -> str:
    """Return a text of a file as it may be printed: what no terminal should obey, and half characters, as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def checked(value: object, kind: type[T], *, strict: bool = True) -> T:
    """Return a value as one of this type. Raise msgspec.ValidationError, for half a character too."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except UnicodeEncodeError:
        raise msgspec.ValidationError(HALF_A_CHARACTER) from None


def refusal_of(error: msgspec.ValidationError, kind: object = None) -> Refusal:
    """Return the refusal of what msgspec does not take as this type."""
    wrong = field_error(error, kind)
    return Refusal((wrong.pointer or "").lstrip("/") or None, wrong.detail)


def broken_field(value: object) -> str | None:
    """Return the path to the first text that is no Unicode; the value is not nested too deeply to be encoded."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if isinstance(part, str) and not _is_unicode(part):
            return str(name)
        if inner := broken_field(part):
            return f"{name}/{inner}"
    return None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
