"""Correction for looking at many: which of many tests are discoveries, and how wide their intervals have to be.

Of the discoveries at most RATE are expected to be chance (Benjamini & Hochberg, Journal of the Royal Statistical
Society B 57, 1995). Where nothing is there at all, that is the chance of any discovery. The intervals of what was
selected so cover at the same rate, on the average over the selected (Benjamini & Yekutieli, Journal of the American
Statistical Association 100, 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from usage_service.probe_keys import Floats

RATE = 0.05


class Discoveries(NamedTuple):
    """Adjusted p-value of each test, in their order: a test is a discovery where it is at most RATE.

    `confidence` is that of the intervals of the discoveries.
    """

    adjusted: Floats
    confidence: float


def discoveries_among(p_values: Sequence[float] | Floats) -> Discoveries:
    """Return the p-values adjusted for their number."""
    tests = len(p_values)
    if not tests:
        return Discoveries(np.empty(0), 1 - RATE)
    order = np.argsort(p_values)[::-1]
    scaled = np.asarray(p_values)[order] * tests / np.arange(tests, 0, -1)
    adjusted = np.empty(tests)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1)
    found = int((adjusted <= RATE).sum())
    return Discoveries(adjusted, 1 - RATE * max(found, 1) / tests)
