"""Measurements of the statistics of many histograms, against a plain loop over them; and of the builder's memory."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate

import numpy as np

from bench.numbers import Row
from bench.stack import BENCH_ENVIRONMENT, ROOT
from builder.aggregates.statistics import PERCENTILES, percentile_places, smoothed, ten_thousandths

COMBINATIONS, BUCKETS = 10_000, 100
MOST_SECONDS, MOST_MEGABYTES = 1.0, 300.0


def measure_statistics(runs: int) -> list[Row]:
    """Measure the seconds for 10,000 combinations of 100 buckets, and the memory for a million cells."""
    values = np.random.default_rng(1).gamma(0.5, 40, (COMBINATIONS, BUCKETS))
    totals = np.rint(values.sum(axis=1))
    rows = list(zip(values.tolist(), totals.tolist(), strict=True))
    plain, ours = list[float](), list[float]()
    for _ in range(runs):
        plain.append(_seconds(lambda: [_plainly(row, total) for row, total in rows]))
        ours.append(_seconds(lambda: percentile_places(ten_thousandths(smoothed(values, totals, 1 / values.shape[1])))))
    what = f"statistics of {COMBINATIONS:,} combinations of {BUCKETS} buckets"
    milliseconds = [seconds * 1e3 for seconds in ours]
    loop, allowed = [seconds * 1e3 for seconds in plain], [MOST_SECONDS * 1e3] * runs
    memory = [_megabytes() for _ in range(runs)]
    return [
        Row(what, "ms", milliseconds, "a plain loop", loop, 1 / 20, most=True),
        Row(what, "ms", milliseconds, "allowed", allowed, 1, most=True),
        Row("memory of a process that makes the rows of 1,000,000 cells, at its peak", "MB", memory, "allowed",
            [MOST_MEGABYTES] * runs, 1, "Python and its libraries included", most=True),
    ]  # fmt: skip


def _plainly(row: list[float], total: float) -> list[int]:
    prior = 1 / len(row)
    units = [math.floor(round((value + prior) / (total + 1) * 10_000, 8) + 0.5) for value in row]
    reached = list(accumulate(units))
    wanted = [round(10 * percent) * reached[-1] for percent in PERCENTILES]
    return [next(place for place, upto in enumerate(reached) if upto * 1000 >= least) for least in wanted]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _megabytes() -> float:
    command = [sys.executable, "-m", "bench.cells"]
    done = subprocess.run(command, cwd=ROOT, env=BENCH_ENVIRONMENT, capture_output=True, check=True, timeout=300)
    return float(done.stdout)
