"""Statistics of a million cells, in a process of its own: `python -m bench.cells`; prints MB of memory that it took."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np

from bench.memory import peak_megabytes
from builder.aggregates.bucket_list import BucketList
from builder.aggregates.cells import read_cells
from builder.aggregates.rows import Layout, ProbeRows
from usage_service.shared.bigquery.pages import Page

CELLS, BUCKETS, PAGE = 1_000_000, 100, 1_000


def pages() -> Iterator[Page]:
    """Make cells as a warehouse sends them, a hundred for each combination."""
    of_all = {
        "probe": 0, "version": 150, "ping_type": "*", "os": "*", "build_hour": "2026110100", "client_agg_type": "",
        "users": 150.0, "samples": 4950, "weighted": False,
    }  # fmt: skip
    for first in range(0, CELLS // BUCKETS, PAGE):
        yield {name: [value] * PAGE for name, value in of_all.items()} | {
            "metric_key": [str(combination) for combination in range(first, first + PAGE)],
            "cells": ["\0".join(f"{bucket} 1.5 {bucket}" for bucket in range(BUCKETS)) for _ in range(PAGE)],
        }


def main() -> None:
    """Go through all rows, as storing them does."""
    buckets = BucketList(tuple(map(str, range(BUCKETS))))
    layout = Layout("timing_distribution", lambda _: buckets, np.arange(BUCKETS), raw=True)
    read = read_cells(pages())
    rows = ProbeRows(read, layout, 1, None)
    if sum(1 for _ in rows) != CELLS // BUCKETS:
        raise SystemExit("rows are missing")
    sys.stdout.write(f"{peak_megabytes(os.getpid())}\n")


if __name__ == "__main__":
    main()
