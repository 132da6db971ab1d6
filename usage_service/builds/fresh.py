"""Cache of fresh builds: what was fresh a moment ago is answered without asking the database again."""

from __future__ import annotations

import time
from collections import OrderedDict

from usage_service.builds.requests import Build

FRESH_SECONDS = 1.0  # at most so late is the end of a day, or a rule that excludes the probe, noticed
MOST_REMEMBERED = 10_000

Wanted = tuple[str, str, str]
"""Product, channel and probe."""


class FreshBuilds:
    """Builds with a result that were fresh when the database was asked last, for FRESH_SECONDS from then."""

    def __init__(self) -> None:
        self._builds: OrderedDict[Wanted, tuple[float, Build]] = OrderedDict()

    def find(self, wanted: Wanted) -> Build | None:
        """Return the build if it was fresh within the last FRESH_SECONDS, or None."""
        until, build = self._builds.get(wanted, (0.0, None))
        return build if until > time.monotonic() else None

    def remember(self, wanted: Wanted, build: Build, asked_at: float) -> None:
        """Remember a build as fresh at a time of the monotonic clock; beyond MOST_REMEMBERED forget the oldest."""
        self._builds[wanted] = asked_at + FRESH_SECONDS, build
        self._builds.move_to_end(wanted)
        if len(self._builds) > MOST_REMEMBERED:
            self._builds.popitem(last=False)

    def forget(self) -> None:
        """Forget all builds, so that the database is asked."""
        self._builds.clear()
