"""Keys of probes, their ranks in the order of names, and types of arrays that are indexed by probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int32]
Ints: TypeAlias = npt.NDArray[np.int64]


class ProbeKey(NamedTuple):
    """Key of a probe: its product and name."""

    product: str
    probe: str


def ranks_of(probes: Sequence[ProbeKey]) -> Ints:
    """Return the place of each probe in the order of product and name."""
    ranks = np.empty(len(probes), dtype=np.int64)
    ranks[sorted(range(len(probes)), key=probes.__getitem__)] = np.arange(len(probes))
    return ranks
