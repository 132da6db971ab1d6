"""What holds for every histogram."""

import json
import math
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.aggregates import buckets, histogram
from builder.aggregates.build_hour import build_hour_to_datetime, build_seconds_to_hour, fenix_build_to_build_hour
from builder.aggregates.sampling import safe_sample_id
from builder.aggregates.thresholds import Minimum, Thresholds
from usage_service.shared import glean_buckets

COUNTS = st.dictionaries(st.integers(0, 10**6).map(str), st.integers(0, 2**40), min_size=1, max_size=30)
PERCENTS = st.floats(0, 100).map(lambda percent: round(percent, 2))


@given(COUNTS, st.sampled_from([1.0, 10.0]))
def test_shares_of_a_client_sum_to_its_weight(counts: dict[str, int], weight: float) -> None:
    shares = [share for _, share in histogram.normalized_sum(list(counts.items()), weight)]
    assert math.isclose(sum(shares), weight if any(counts.values()) else 0.0)


@given(COUNTS)
def test_a_smoothed_histogram_sums_to_one_and_has_no_empty_bucket(counts: dict[str, int]) -> None:
    values = {key: float(value) for key, value in counts.items()}
    smoothed = histogram.fill_buckets_dirichlet(values, list(values), sum(counts.values()))
    assert math.isclose(sum(value for _, value in smoothed), 1.0)
    assert all(value > 0 for _, value in smoothed)
    assert [float(key) for key, _ in smoothed] == sorted(float(key) for key in values)


@given(COUNTS)
def test_a_key_that_is_no_bucket_is_dropped_but_weighs(counts: dict[str, int]) -> None:
    values = {**{key: float(value) for key, value in counts.items()}, "off": 5.0}
    users = sum(counts.values()) + 5
    smoothed = dict(histogram.fill_buckets_dirichlet(values, list(counts), users))
    assert set(smoothed) == set(counts)
    assert math.isclose(sum(smoothed.values()), (users - 5 + 1) / (users + 1))


@given(COUNTS, PERCENTS, PERCENTS)
def test_percentiles_are_buckets_and_never_fall(counts: dict[str, int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    entries = list(counts.items())
    assert str(int(histogram.percentile(low, entries))) in counts
    if any(counts.values()):
        assert histogram.percentile(low, entries) <= histogram.percentile(high, entries)


@given(COUNTS, PERCENTS)
def test_a_percentile_is_the_first_bucket_that_reaches_the_share(counts: dict[str, int], percent: float) -> None:
    key = histogram.percentile(percent, list(counts.items()))
    total, wanted = sum(counts.values()), Fraction(str(percent)) / 100
    upto = sum(value for bucket, value in counts.items() if int(bucket) <= key)
    below = sum(value for bucket, value in counts.items() if int(bucket) < key)
    if total:
        assert Fraction(upto, total) >= wanted
        assert Fraction(below, total) < wanted or not any(int(bucket) < key for bucket in counts)


def test_a_histogram_of_nothing_answers_its_largest_key() -> None:
    assert histogram.percentile(50, [("10", 0), ("9", 0)]) == 10


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan])
def test_no_percentile_outside_0_to_100(percent: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        histogram.percentile(percent, [("1", 1)])


@given(st.decimals(-1000, 1000, allow_nan=False, places=6))
def test_values_are_rounded_half_away_from_zero(value: Decimal) -> None:
    expected = value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
    assert Decimal(str(histogram.rounded(float(value)))) == expected


@given(st.permutations([Fraction(1, 7), Fraction(2, 7), Fraction(4, 7), Fraction(1, 3), Fraction(2, 3)] * 4))
def test_the_stored_value_does_not_depend_on_the_order_of_a_sum(shares: list[Fraction]) -> None:
    assert histogram.rounded(sum(float(share) for share in shares) / 160000) == 0.0001


@given(COUNTS)
def test_json_keeps_numeric_order_and_whole_numbers(counts: dict[str, int]) -> None:
    text = histogram.cast_json(list(counts.items()))
    assert json.loads(text) == counts
    assert [int(key) for key in json.loads(text)] == sorted(int(key) for key in counts)
    assert "." not in text


@given(st.integers(0, 2**45), st.sampled_from([8, 16]))
def test_functional_buckets_rise_from_0_and_end_at_the_largest(largest: int, per_magnitude: int) -> None:
    bounds = glean_buckets.functional_buckets(2, per_magnitude, largest)
    assert bounds[0] == 0
    assert all(low < high for low, high in pairwise(bounds))
    assert bounds[-1] <= largest < bounds[-1] * 2 + 1


@pytest.mark.parametrize("largest", [-1, -(2**40)])
def test_no_functional_buckets_where_nothing_was_seen(largest: int) -> None:
    assert glean_buckets.functional_buckets(2, 8, largest) == []


@given(st.floats(0.01, 2**40), st.floats(0.01, 2**40))
def test_scalar_buckets_rise_within_the_range(one: float, other: float) -> None:
    low, high = sorted((one, other))
    bounds = [float(bound) for bound in buckets.scalar_buckets_between(low, high)]
    assert len(bounds) <= 100
    assert all(below < above for below, above in pairwise(bounds))
    noise = 0.006 + high * 1e-12
    assert not bounds or low - noise <= bounds[0] <= bounds[-1] <= high + noise


@given(st.integers(0, 20), st.integers(60, 10_000), st.integers(3, 20))
def test_buckets_of_custom_distributions_rise_to_their_maximum(smallest: int, largest: int, count: int) -> None:
    for make in (glean_buckets.exponential_buckets, glean_buckets.linear_buckets):
        bounds = make(smallest, largest, count)
        assert bounds[0] == 0
        assert bounds[-1] == largest
        assert len(bounds) == count


@pytest.mark.parametrize("text", ["", "2020060514141", "20201305141414", "20200605", "x" * 14, "²0200605141414"])
def test_what_is_no_build_id_has_no_hour(text: str) -> None:
    for parse in (build_seconds_to_hour, build_hour_to_datetime):
        with pytest.raises(ValueError, match=r"digits|build id|match|unconverted"):
            parse(text)


@pytest.mark.parametrize("text", ["", "2020060514141", "20009999", "29990000", "13660000", "x" * 8, "²0010000"])
def test_what_is_no_fenix_build_has_no_hour(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits|build id|match|unconverted"):
        fenix_build_to_build_hour(text)


def test_a_ten_digit_fenix_build_counts_hours_since_2014() -> None:
    hours = 44_000  # 2020-01-04 08:00
    assert fenix_build_to_build_hour(str((hours << 3) | 5 | (1 << 30)).rjust(10, "0")) == "2020010408"


@given(st.text())
def test_sample_ids_lie_between_0_and_99(client_id: str) -> None:
    assert 0 <= safe_sample_id(client_id) <= 99


def test_thresholds_are_those_of_the_etl_unless_told() -> None:
    thresholds = Thresholds()
    assert thresholds.of("fog", "release") == Minimum(450_000, 100)
    assert thresholds.of("fenix", "nightly") == Minimum(800, 10)
    assert thresholds.of("fog", "esr") == thresholds.otherwise
    told = Thresholds.told({"fog/beta": "15/3"})
    assert (told.of("fog", "beta"), told.of("fog", "release")) == (Minimum(15, 3), Minimum(450_000, 100))
    everybody = Thresholds.told({"fog/beta": "15/3", "*": "5/1"})
    assert (everybody.of("fog", "beta"), everybody.of("fog", "release")) == (Minimum(15, 3), Minimum(5, 1))
