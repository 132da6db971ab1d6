"""Rate limit of each name: so many requests a second, by default with bursts of ten seconds' worth."""

from __future__ import annotations

import math
from typing import NamedTuple

BURST_SECONDS = 10
MOST_NAMES = 10_000


class Allowance(NamedTuple):
    """Rate limit of a token at a moment: requests left, and seconds until the whole quota, or one request, is free."""

    quota: int
    remaining: int
    full_seconds: int
    retry_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"token";q={self.quota};w={BURST_SECONDS}',
            "RateLimit": f'"token";r={self.remaining};t={self.full_seconds}',
        }


class Limits:
    """Rate limiter by the generic cell rate algorithm (ITU-T I.371), which keeps one number for each name."""

    def __init__(self, per_second: float, burst_seconds: float = BURST_SECONDS) -> None:
        self._interval = 1 / per_second
        self._quota = max(1, math.floor(per_second * burst_seconds + 1e-9))
        self._full_at: dict[str, float] = {}  # when a name has its whole quota again

    def take(self, name: str, now: float) -> Allowance:
        """Count one request; `retry_seconds` is 0 when it may be made, else the seconds to wait."""
        full_at, left = self._left(name, now)
        if retry_seconds := self._retry_seconds(left):
            return Allowance(self._quota, 0, math.ceil(full_at - now), retry_seconds)
        self._full_at[name] = full_at + self._interval
        if len(self._full_at) > MOST_NAMES:
            self._forget(now)
        remaining = math.floor(left - 1 + 1e-9)
        return Allowance(self._quota, remaining, math.ceil(full_at + self._interval - now), 0)

    def retry_seconds(self, name: str, now: float) -> int:
        """Return 0 when a request may be made, else the seconds to wait, without counting any."""
        return self._retry_seconds(self._left(name, now)[1])

    def _left(self, name: str, now: float) -> tuple[float, float]:
        full_at = max(self._full_at.get(name, now), now)
        return full_at, self._quota - (full_at - now) / self._interval

    def _retry_seconds(self, left: float) -> int:
        return max(1, math.ceil((1 - left) * self._interval)) if left < 1 - 1e-9 else 0

    def _forget(self, now: float) -> None:
        """Forget names that have their whole quota again, and half of all names, those nearest to it."""
        latest = sorted(self._full_at.items(), key=lambda item: item[1])[MOST_NAMES // 2 :]
        self._full_at = {name: full_at for name, full_at in latest if full_at > now}
