"""Student's t distribution with whole degrees of freedom (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np

from usage_service.probe_keys import Floats

MOST_QUANTILES = 1_000
Number = TypeVar("Number", float, Floats)


def student_within(t: Number, freedom: int) -> Number:
    """Return P(|T| <= t), of one t or of each of many."""
    odd = freedom % 2
    cosine = (1 + t * t / freedom) ** -0.5
    sine = t * cosine / math.sqrt(freedom)
    term = cosine**odd
    total = term if freedom > 1 else 0 * term
    for k in range(2 + odd, freedom - 1, 2):
        term = term * (k - 1) / k * cosine**2
        total = total + term
    within: Number = 2 / math.pi * (np.arctan(t / math.sqrt(freedom)) + sine * total) if odd else sine * total
    return within


@lru_cache(MOST_QUANTILES)
def student_quantile(within: float, freedom: int) -> float:
    """Return the t for which P(|T| <= t) is `within`, by bisection."""
    low, high = 0.0, 1e6
    while high - low > 1e-12 * (1 + high):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, freedom) < within else (low, middle)
    return (low + high) / 2
