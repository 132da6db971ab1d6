"""The statistics of many histograms at once equal those of each alone, and take a fraction of the time."""

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.cells import read_cells
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.statistics import PERCENTILES, Floats, Integers, percentile_places, smoothed, ten_thousandths
from tests.builder.build_steps import page_of
from tests.support.glam_today_reference import percentiles as reference_percentiles
from usage_service.shared.bigquery.pages import Page

COMBINATIONS, BUCKETS = 10_000, 100
TIMES_FASTER, MOST_SECONDS = 20, 1.0
CELLS = 40_000
BYTES_A_CELL = 300


def plainly(row: list[float], total: float) -> tuple[list[int], list[int]]:
    """Return the smoothed, rounded values and the places of the percentiles, by a plain loop."""
    prior = 1 / len(row)
    units = [math.floor(round((value + prior) / (total + 1) * 10_000, 8) + 0.5) for value in row]
    reached = list(accumulate(units))
    # In tenths of a percent, which are whole.
    wanted = [round(10 * percent) * reached[-1] for percent in PERCENTILES]
    return units, [next(place for place, upto in enumerate(reached) if upto * 1000 >= least) for least in wanted]


def at_once(values: Floats, totals: Floats) -> tuple[Integers, Integers]:
    units = ten_thousandths(smoothed(values, totals, 1 / values.shape[1]))
    return units, percentile_places(units)


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=7, max_size=7), min_size=1, max_size=20))
def test_each_is_as_if_it_were_alone(rows: list[list[int]]) -> None:
    values = np.array(rows, dtype=np.float64)
    shares, places = at_once(values, values.sum(axis=1))
    alone = [plainly(list(map(float, row)), float(sum(row))) for row in rows]
    assert shares.tolist() == [units for units, _ in alone]
    assert places.tolist() == [own for _, own in alone]


@given(st.lists(st.integers(0, 2**57), min_size=1, max_size=30))
def test_percentiles_of_counts_are_exact_up_to_63_bits(counts: list[int]) -> None:
    places = percentile_places(np.array([counts], dtype=np.int64))[0].tolist()
    expected = reference_percentiles({str(key): Fraction(count) for key, count in enumerate(counts)})
    assert places == list(expected.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e10])
def test_what_cannot_be_rounded_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="may reach"):
        ten_thousandths(np.array([[value]]))


def test_ten_thousand_histograms_take_less_than_a_second_and_a_twentieth_of_a_plain_loop() -> None:
    values = np.random.default_rng(1).gamma(0.5, 40, (COMBINATIONS, BUCKETS))
    totals = np.rint(values.sum(axis=1))
    spent = min(cpu_seconds(lambda: at_once(values, totals)) for _ in range(3))
    some = COMBINATIONS // 10
    rows = list(zip(values[:some].tolist(), totals[:some].tolist(), strict=True))
    plain = cpu_seconds(lambda: [plainly(row, total) for row, total in rows]) * (COMBINATIONS / some)
    assert spent < MOST_SECONDS
    assert spent * TIMES_FASTER < plain


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def test_a_large_result_takes_little_memory_and_its_rows_none() -> None:
    buckets = BucketList(tuple(map(str, range(BUCKETS))))
    tracemalloc.start()
    cells = read_cells(large_result())
    rows = ProbeRows(cells, Layout("timing_distribution", lambda _: buckets, np.arange(BUCKETS), raw=True), 1, None)
    number = sum(1 for _ in rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert number == len(rows) == CELLS // BUCKETS
    assert peak < CELLS * BYTES_A_CELL


def large_result() -> Iterator[Page]:
    """Yield CELLS cells, a hundred for each combination, and a page for these."""
    for combination in range(CELLS // BUCKETS):
        about: dict[str, object] = {"version": 150, "ping_type": "*", "os": "*", "build_hour": "2026110100"}
        about |= {"probe": 0, "metric_key": str(combination), "client_agg_type": "", "users": 1.0, "samples": 1}
        buckets = [(str(bucket), 1.0, bucket) for bucket in range(BUCKETS)]
        yield page_of([about | {"weighted": False, "cells": buckets}])
