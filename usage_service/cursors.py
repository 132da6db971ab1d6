"""Cursors of paged lists: opaque texts that name the last entry of the page before."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from usage_service.shared.patterns import worded
from usage_service.shared.texts import NUL_REFUSED, has_nul

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_3000 = 32_503_680_000_000_000  # in microseconds
CursorText = Annotated[
    str,
    Meta(
        pattern=worded(r"^[A-Za-z0-9_-]{1,1000}(?!\n)$", "what the `next` link of an answer has"),
        description="from a `next` link",
    ),
]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of cursors; each list has its own fields, which name the last entry of a page."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a cursor; raise ValueError when it is malformed."""
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        if has_nul(msgspec.to_builtins(cursor)):
            raise ValueError(NUL_REFUSED)
        return cursor

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


class InstantCursor(Cursor, frozen=True):
    """Base of cursors at an entry of a list that goes by an instant, which a derived cursor tells more of."""

    microseconds: Annotated[int, Meta(ge=0, le=YEAR_3000)]

    @property
    def instant(self) -> datetime:
        """Return the instant of the entry."""
        return EPOCH + timedelta(microseconds=self.microseconds)


def microseconds_of(instant: datetime) -> int:
    """Return an instant as an InstantCursor takes it."""
    return (instant - EPOCH) // timedelta(microseconds=1)
