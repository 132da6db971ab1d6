"""Cursors of paged lists: opaque texts that name the last entry of the page before."""

from __future__ import annotations

import base64
from typing import Annotated, Self

import msgspec
from msgspec import Meta

CursorText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,1000}(?!\n)$", description="from a `next` link")]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of cursors; each list has its own fields, which name the last entry of a page."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a cursor; raise ValueError when it is malformed."""
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")
