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
    """Return the requests for the first probes of each list: a row for each row of keys, a column for each size.

    Sizes ascend.
    """
    asked, places = np.flatnonzero(requests), keys.shape[1] - sizes
    # The least key on a list of each size: that of its last place, or 0 where it has room for all.
    least = np.where(places >= 0, np.maximum(np.sort(keys, axis=1)[:, np.maximum(places, 0)], 0), 0)
    weights, caught = requests[asked], np.empty((len(keys), len(sizes)))
    for number, own in enumerate(keys[:, asked]):
        lists = np.searchsorted(least[number, ::-1], own, side="right")  # of the lists, the longest first, hold it
        caught[number] = np.cumsum(np.bincount(lists, weights, len(sizes) + 1)[:0:-1])
    return caught
