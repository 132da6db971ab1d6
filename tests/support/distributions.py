"""Rows of distributions as the builder would store them, of made-up clients whose values are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usage_service.stats.distributions import Distribution, distribution_of

BUCKETS = np.array(sorted({0, *(int(2 ** (i / 8)) for i in range(100))}))
Values = NDArray[np.float64]


def clients(chance: np.random.Generator, number: int, middle: float = 200, within: float = 0.5) -> Values:
    """Draw eight values of each client, lognormal around the client's own middle."""
    own = np.log(middle) + chance.normal(0, 1, number)
    return np.asarray(np.exp(own[:, np.newaxis] + chance.normal(0, within, (number, 8))), dtype=np.float64)


def histogram_of(values: Values) -> dict[str, float]:
    """Return the stored histogram of clients: each counts as one, smoothed, to four digits."""
    places = np.clip(np.searchsorted(BUCKETS, values.ravel(), side="right") - 1, 0, None)
    sums = np.bincount(places, minlength=len(BUCKETS)) / values.shape[1]
    stored = np.round((sums + 1 / len(BUCKETS)) / (len(values) + 1), 4)
    return {str(start): share for start, share in zip(BUCKETS.tolist(), stored.tolist(), strict=True)}


def stored(values: Values, independent: float | None = None) -> Distribution:
    """Return the distribution of clients."""
    number = len(values)
    found = distribution_of(
        histogram_of(values), numeric=True, counter=False, total_users=number, clients=independent or number
    )
    assert found is not None
    return found


def categories(shares: dict[str, float], number: int) -> Distribution:
    """Return the distribution of clients of which such shares are in each category."""
    smoothed = {name: round((share * number + 1 / len(shares)) / (number + 1), 4) for name, share in shares.items()}
    found = distribution_of(smoothed, numeric=False, counter=False, total_users=number, clients=number)
    assert found is not None
    return found
