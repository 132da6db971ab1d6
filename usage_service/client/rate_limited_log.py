"""A log whose lines cannot flood the app's log, nor break the app."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

MOST_KEYS = 200

# The standard library's: the app's own configuration of logging decides where the lines go, and importing costs little.
log = logging.getLogger("usage_service.client")


class RateLimitedLog:
    """Writes each kind of line at most once a period, with the number of lines left out in between."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(
        self, event: str, *, key: str = "", every: float = 60, level: int = logging.WARNING, **fields: object
    ) -> None:
        """Log a line `event name=value ...`, at most once in `every` seconds for the same event and key."""
        with suppress(Exception):  # a broken log handler is not to fail a request
            self._write(event, f"{event} {key}", every, level, fields)

    def _write(self, event: str, name: str, every: float, level: int, fields: dict[str, object]) -> None:
        now = time.monotonic()
        if now < self._next.get(name, now):
            self._left_out[name] = self._left_out.get(name, 0) + 1
            return
        if len(self._next) >= MOST_KEYS:
            self._next.clear()
            self._left_out.clear()
        self._next[name] = now + every
        if left_out := self._left_out.pop(name, 0):
            fields |= {"left_out": left_out}
        log.log(level, "%s %s", event, " ".join(f"{name}={str(value)[:300]!r}" for name, value in fields.items()))
