"""A probe of a product as a key, its place in the order of names, and the arrays that are indexed by such places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int32]
Ints: TypeAlias = npt.NDArray[np.int64]


class ProbeKey(NamedTuple):
    """A probe of a product."""

    product: str
    probe: str


def ranks_of(probes: Sequence[ProbeKey]) -> Ints:
    """The place of each in the order of product and name."""
    ranks = np.empty(len(probes), dtype=np.int64)
    ranks[sorted(range(len(probes)), key=probes.__getitem__)] = np.arange(len(probes))
    return ranks
