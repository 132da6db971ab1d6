"""Limit on the number of streams that are open at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StreamLimitReachedError(Exception):
    """As many streams are open as the limit allows."""


class StreamLimit:
    """Counter of open streams, of which at most `most` are let in."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Count a stream until the end of the block; raise StreamLimitReachedError when the limit is reached."""
        if self.taken >= self.most:
            raise StreamLimitReachedError(f"all {self.most} places are taken")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
