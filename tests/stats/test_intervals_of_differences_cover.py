"""Intervals of differences cover what they estimate at least at their rate, by simulation with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.distributions import categories, clients, stored
from usage_service.stats.differences import (
    PERCENTS,
    category_differences,
    critical,
    exceeds,
    gap_between,
    percentile_differences,
)
from usage_service.stats.distributions import Distribution, distribution_of, independent_clients

ROUNDS = 150
LEAST = 0.95 - 2 * math.sqrt(0.95 * 0.05 / ROUNDS)
SLOWER = 1.2


@pytest.mark.parametrize(("number", "within"), [(60, 0.5), (400, 0.01), (400, 1.5)])
def test_intervals_cover_whatever_clients_do(number: int, within: float) -> None:
    """Try clients that send one value all the time, and such whose values are spread."""
    chance = np.random.default_rng(20261129)
    truth, slower = (stored(clients(chance, 100_000, 200 * factor, within)) for factor in (1, SLOWER))
    assert truth.starts is not None
    further = dict(zip(truth.starts.tolist(), truth.below_starts() - slower.below_starts(), strict=True))
    covered, distances, false_alarms = dict.fromkeys(PERCENTS, 0), 0, 0
    for _ in range(ROUNDS):
        one, again, other = (stored(clients(chance, number, 200 * factor, within)) for factor in (1, 1, SLOWER))
        for found in percentile_differences(one, other):
            percent = float(found.of)
            moved = slower.percentile(percent) - truth.percentile(percent)
            covered[percent] += found.difference.low <= moved <= found.difference.high
        gap, null = gap_between(one, other), gap_between(one, again)
        assert gap
        assert null
        distances += gap.interval().low <= further[float(gap.at)] <= gap.interval().high
        false_alarms += null.p_value < 0.05
    assert min(covered.values()) >= LEAST * ROUNDS
    assert distances >= LEAST * ROUNDS
    assert false_alarms <= (1 - LEAST) * ROUNDS


def test_intervals_of_shares_cover() -> None:
    chance = np.random.default_rng(20261129)
    truth, slower, names = np.array([0.7, 0.2, 0.1]), np.array([0.6, 0.3, 0.1]), ("always", "never", "sometimes")
    covered, false_alarms = dict.fromkeys(names, 0), 0
    for _ in range(400):
        one, again, other = (
            categories(dict(zip(names, chance.multinomial(150, shares) / 150, strict=True)), 150)
            for shares in (truth, truth, slower)
        )
        for found in category_differences(one, other):
            moved = dict(zip(names, slower - truth, strict=True))[str(found.of)]
            covered[str(found.of)] += found.difference.low <= moved <= found.difference.high
        null = gap_between(one, again)
        assert null
        false_alarms += null.p_value < 0.05
    assert min(covered.values()) >= 0.93 * 400
    assert false_alarms <= 0.07 * 400


def test_clients_that_are_on_every_build_count_once() -> None:
    """A row of all builds has each client as often as it has builds, which makes it no surer."""
    chance = np.random.default_rng(20261129)
    false_alarms = {True: 0, False: 0}
    for _ in range(60):
        sides = [np.tile(clients(chance, 80, within=0.05), (6, 1)) for _ in range(2)]
        for told in (True, False):
            independent = independent_clients("fog", "nightly", "*", 480, [80.0] * 6) if told else 480.0
            gap = gap_between(stored(sides[0], independent), stored(sides[1], independent))
            assert gap
            false_alarms[told] += gap.p_value < 0.05
    assert false_alarms[True] <= 6
    assert false_alarms[False] >= 15  # so many without it


@pytest.mark.parametrize(
    ("channel", "system", "parts", "expected"),
    [
        ("nightly", "*", [100.0], 100), ("nightly", "*", [100.0] * 4, 100), ("nightly", "*", [], 1000),
        ("nightly", "*", [900.0, 100.0], 625), ("nightly", "*", [247.0], 247),
        ("release", "Windows", [1000.0], 100), ("release", "*", [1000.0], 100),
        ("release", "Linux", [1000.0], 1000),
    ],
)  # fmt: skip
def test_independent_clients_are_counted_with_care(
    channel: str, system: str, parts: list[float], expected: float
) -> None:
    assert independent_clients("fog", channel, system, 1000, parts) == pytest.approx(expected)


def test_only_shared_buckets_are_compared() -> None:
    """What lies below the start of a bucket is known exactly where both have one that begins there."""
    coarse = distribution_of({"0": 0.5, "10": 0.5}, numeric=True, counter=False, total_users=1_000, clients=1_000)
    fine = distribution_of(
        {"0": 0.25, "5": 0.25, "10": 0.5}, numeric=True, counter=False, total_users=1_000, clients=1_000
    )
    other = distribution_of({"3": 0.5, "7": 0.5}, numeric=True, counter=False, total_users=1_000, clients=1_000)
    assert coarse
    assert fine
    assert other
    same = gap_between(coarse, fine)
    assert same
    assert same.p_value == 1
    assert gap_between(coarse, other) is None
    assert gap_between(coarse, categories({"always": 1, "never": 0}, 100)) is None


def test_a_counter_may_be_below_all_buckets() -> None:
    few, many = (
        distribution_of({"1": share, "10": share}, numeric=True, counter=True, total_users=500, clients=500)
        for share in (0.45, 0.25)
    )
    assert few
    assert many
    gap = gap_between(few, many)
    assert gap
    assert (gap.at, round(gap.second - gap.first, 2)) == (1, -0.4)  # of those with at least 1


def test_the_same_clients_may_err_together() -> None:
    one, other = categories({"a": 0.5, "b": 0.5}, 200), categories({"a": 0.4, "b": 0.6}, 200)
    apart, together = (category_differences(one, other, same_clients)[0].difference for same_clients in (False, True))
    assert together.high - together.low > 1.3 * (apart.high - apart.low)
    [apart_gap, together_gap] = (gap_between(one, other, same_clients) for same_clients in (False, True))
    assert apart_gap
    assert together_gap
    assert together_gap.p_value > apart_gap.p_value


@pytest.mark.parametrize(("statistic", "chance"), [(1.3581, 0.05), (1.6276, 0.01), (0.8276, 0.5)])
def test_kolmogorovs_law_is_that_of_the_tables(statistic: float, chance: float) -> None:
    assert exceeds(statistic, 0) == pytest.approx(chance, rel=2e-3)
    assert critical(chance, 0) == pytest.approx(statistic, rel=1e-4)
    assert critical(0.05, 1) == pytest.approx(1.959964, rel=1e-6)


HISTOGRAMS = st.lists(st.floats(0, 1), min_size=1, max_size=40).filter(lambda values: sum(values) > 0.01)


def made(values: list[float], number: int, first: int) -> Distribution:
    shares = [value / sum(values) for value in values]
    smoothed = {
        str(first + place): round((share * number + 1 / len(shares)) / (number + 1), 4)
        for place, share in enumerate(shares)
    }
    found = distribution_of(smoothed, numeric=True, counter=False, total_users=number, clients=number)
    assert found
    return found


@given(HISTOGRAMS, HISTOGRAMS, st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 50))
def test_swapped_sides_have_the_opposite_difference(
    one: list[float], other: list[float], ours: int, theirs: int, shift: int
) -> None:
    first, second = made(one, ours, 0), made(other, theirs, shift)
    there, back = percentile_differences(first, second), percentile_differences(second, first)
    for found, opposite in zip(there, back, strict=True):
        assert found.difference.low <= found.difference.value <= found.difference.high
        assert found.difference.value == -opposite.difference.value
        assert found.difference.low == pytest.approx(-opposite.difference.high)
    gap, opposite_gap = gap_between(first, second), gap_between(second, first)
    assert (gap is None) == (opposite_gap is None)
    if gap and opposite_gap:
        assert gap.p_value == pytest.approx(opposite_gap.p_value)
        assert 0 <= gap.p_value <= 1
        assert -1 <= gap.interval().low <= gap.second - gap.first <= gap.interval().high <= 1


@given(HISTOGRAMS, st.integers(1, 10**6))
def test_nothing_differs_from_itself(values: list[float], number: int) -> None:
    only = made(values, number, 0)
    gap = gap_between(only, only)
    assert gap
    assert gap.p_value == 1
    assert all(found.difference.value == 0 for found in percentile_differences(only, only))
