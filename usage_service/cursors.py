"""Where a page of a list begins: after the last entry of the page before, told as a text without meaning to others."""

from __future__ import annotations

import base64
from typing import Annotated, Self

import msgspec
from msgspec import Meta

CursorText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,1000}(?!\n)$", description="of a link to the next page")]


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What names the last entry of a page; each list has its own fields."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor of its text; raises ValueError for what is none."""
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")
