"""A bounded number of places for what stays for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class NoSlotError(Exception):
    """All places are taken."""


class Slots:
    """At most `most` places are taken at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """A place until the end of the block; raises NoSlotError at once where there is none."""
        if self.taken >= self.most:
            raise NoSlotError(f"all {self.most} places are taken")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
