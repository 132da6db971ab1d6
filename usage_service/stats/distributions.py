"""Distribution of a probe among clients, as a stored row tells it, and how many clients it is sure to be made of.

Rows have sums over clients; the clients themselves are not stored. Each client counts as much as any other: its values
are a distribution of their own, and a row has the mean of these. So a share of a row is a mean of numbers from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from usage_service.probe_keys import Floats

ROUNDED_TO = 1e-4  # shares are stored with four digits
SAMPLED_WEIGHT = 10  # of a client on Windows in the release channel, where one in ten is read
ALL = "*"


class Distribution(NamedTuple):
    """Shares of clients by bucket, smoothed as they are stored.

    `starts` are the lower bounds of the buckets, None where they are categories. `below` is the share of the clients
    whose value lies below all buckets: only counters have them. `total_users` are the clients of the row, `clients` the
    independent ones among them, at least.
    """

    names: tuple[str, ...]
    starts: Floats | None
    smoothed: Floats
    below: float
    total_users: float
    clients: float

    @property
    def shares(self) -> Floats:
        """Return the shares without the smoothing, which adds one client that is spread evenly over the buckets."""
        raw = np.maximum(self.smoothed * (self.total_users + 1) - 1 / len(self.names), 0)
        within = max(float(raw.sum()), 1e-12)
        return np.asarray(raw * ((1 - self.below) / within), dtype=np.float64)

    def below_starts(self) -> Floats:
        """Return the share of clients below the start of each bucket."""
        return np.minimum(self.below + np.concatenate(([0.0], np.cumsum(self.shares)[:-1])), 1)

    def percentile(self, percent: float) -> float:
        """Return the start of the first bucket that brings the share to the percent, as percentiles are stored."""
        assert self.starts is not None
        reached = np.cumsum(self.smoothed)
        wanted = min(max(percent, 0), 100) / 100 * reached[-1] * (1 - 1e-12)
        return float(self.starts[min(int(np.searchsorted(reached, wanted)), len(self.starts) - 1)])


def distribution_of(
    histogram: Mapping[str, float], *, numeric: bool, counter: bool, total_users: float, clients: float
) -> Distribution | None:
    """Return the distribution of a stored histogram; a `counter` may have clients below its first bucket.

    Return None where nothing is told: no client, or all values are equal.
    """
    if not histogram or clients <= 0:
        return None
    smoothed = np.fromiter(histogram.values(), dtype=np.float64)
    starts = np.fromiter(map(float, histogram), dtype=np.float64) if numeric else None
    below = max(0.0, 1 - float(smoothed.sum())) if counter else 0.0
    return Distribution(tuple(histogram), starts, smoothed, below, total_users, clients)


def independent_clients(product: str, channel: str, system: str, total_users: float, parts: Sequence[float]) -> float:
    """Return how many independent clients a row is made of, at least.

    `parts` are the clients of the rows that it sums up, of single builds or pings: the same client may be in each. The
    standard deviation of a weighted mean is at most the weighted mean of the parts' standard deviations (Minkowski),
    which is that of (sum n)^2 / (sum sqrt n)^2 clients. Where one client in ten is read, ten count as one.
    """
    sampled = (product, channel) == ("fog", "release") and system in (ALL, "Windows")
    roots = sum(part**0.5 for part in parts)
    clients = min(total_users, round((sum(parts) / roots) ** 2, 6)) if roots else total_users
    return clients / (SAMPLED_WEIGHT if sampled else 1)
