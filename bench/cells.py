"""Statistics of a million cells, in a process of its own: `python -m bench.cells`; prints MB of memory that it took."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.memory import peak_megabytes
from builder.aggregates.bucket_list import BucketList
from builder.aggregates.cells import read_cells
from builder.aggregates.rows import Layout, ProbeRows

CELLS, BUCKETS = 1_000_000, 100


def cells() -> Iterator[dict[str, Any]]:
    """Make cells as a warehouse sends them, a hundred for each combination."""
    for number in range(CELLS):
        combination, bucket = divmod(number, BUCKETS)
        yield {
            "probe": 0, "version": 150, "ping_type": "*", "os": "*", "build_hour": "2026110100",
            "metric_key": str(combination),
            "client_agg_type": "", "bucket": str(bucket), "amount": 1.5, "users": 1.5, "samples": bucket,
            "weighted": False,
        }  # fmt: skip


def main() -> None:
    """Go through all rows, as storing them does."""
    buckets = BucketList(tuple(map(str, range(BUCKETS))))
    layout = Layout("timing_distribution", lambda _: buckets, np.arange(BUCKETS), raw=True)
    read = read_cells(cells())
    rows = ProbeRows(read, layout, 1, None)
    if sum(1 for _ in rows) != CELLS // BUCKETS:
        raise SystemExit("rows are missing")
    sys.stdout.write(f"{peak_megabytes(os.getpid())}\n")


if __name__ == "__main__":
    main()
