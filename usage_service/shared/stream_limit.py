"""Limit on the number of streams that are open at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class StreamLimitReachedError(Exception):
    """As many streams are open as a limit allows."""


class StreamLimit:
    """Counter of open streams, of which at most `most` are let in, and `most_each` of one name."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self.refused = 0
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """The streams that are open."""
        return self._taken.total()

    @contextmanager
    def take(self, name: str) -> Iterator[None]:
        """Count a stream until the end of the block; raise StreamLimitReachedError when a limit is reached."""
        if self.taken >= self.most:
            self._refuse(f"all {self.most} places are taken")
        if self._taken[name] >= self.most_each:
            self._refuse(f"all {self.most_each} places of {name} are taken")
        self._taken[name] += 1
        try:
            yield
        finally:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]

    def _refuse(self, why: str) -> NoReturn:
        self.refused += 1
        raise StreamLimitReachedError(why)
