"""Orders of probes by score, and what the first of them catch of a day's requests."""

from __future__ import annotations

import numpy as np

from usage_service.probe_keys import Floats, Ints

DECIMALS = 7  # of a score: smaller differences are ties, which the order of names decides


def keys_of(score: Floats, ranks: Ints) -> Ints:
    """Return a whole number for each score, all different: the larger, the earlier on the list; below 0: not on it."""
    size = len(ranks)
    steps = np.rint(np.minimum(score * 10.0**DECIMALS, 2.0**62 / max(size, 1))).astype(np.int64)
    return np.where(steps > 0, steps * size + (size - 1 - ranks), -1 - ranks)


def ranking(score: Floats, ranks: Ints) -> Ints:
    """Return the columns with a score above 0, highest score first, equals in the order of names."""
    keys = keys_of(score, ranks)
    return np.argsort(-keys)[: np.count_nonzero(keys >= 0)]


def caught_within(keys: Ints, requests: Floats, sizes: Ints) -> Floats:
    """Return the requests for the first probes of each list: a row for each row of keys, a column for each size."""
    asked = np.flatnonzero(requests)
    ordered = np.sort(keys, axis=1)
    caught = np.empty((len(keys), len(sizes)))
    for number, own in enumerate(keys):
        place = keys.shape[1] - 1 - np.searchsorted(ordered[number], own[asked])
        listed = own[asked] >= 0
        first = np.searchsorted(sizes, place[listed], side="right")
        weights = requests[asked[listed]]
        caught[number] = np.cumsum(np.bincount(first, weights, len(sizes) + 1))[: len(sizes)]
    return caught
