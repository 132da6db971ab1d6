"""Properties of every histogram that a build makes."""

import json
import math
import random
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.json_texts import count_texts, share_texts
from builder.aggregates.scalar_ranges import scalar_buckets_between
from builder.aggregates.statistics import smoothed, ten_thousandths
from builder.aggregates.thresholds import Minimum, Thresholds
from tests.builder.build_steps import WarehouseSteps, percentile, ping_of_labels, row_of
from tests.support.ping_warehouse import warehouse
from tests.support.servers import rounds
from usage_service.shared import glean_buckets

COUNTS = st.dictionaries(st.integers(0, 10**6).map(str), st.integers(0, 2**40), min_size=1, max_size=30)
PERCENTS = st.floats(0, 100).map(lambda percent: round(percent, 2))
LARGEST = 10**6
TRIED = settings(max_examples=rounds(30))


def numbers(keys: Iterable[str]) -> BucketList:
    """Return the buckets of these keys, in numeric order as a build makes them."""
    return BucketList(tuple(sorted(keys, key=int)))


def histograms(chance: random.Random, number: int) -> list[dict[str, int]]:
    """Return so many histograms; every tenth counts nothing."""
    sizes = [chance.randint(1, 30) for _ in range(number)]
    largest = [2 ** chance.randint(0, 40) if place % 10 else 0 for place in range(number)]
    return [
        {str(chance.randint(0, LARGEST)): chance.randint(0, most) for _ in range(size)}
        for size, most in zip(sizes, largest, strict=True)
    ]


SENT = {weight: histograms(random.Random(weight), 30) for weight in (1, 10)}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseSteps]:
    pings = [ping_of_labels(f"weight-{weight}", sent) for weight, sent in SENT.items()]
    with warehouse(tmp_path_factory.mktemp("properties") / "pings.duckdb", pings) as client:
        yield WarehouseSteps(client)


@pytest.mark.parametrize("weight", SENT)
def test_shares_of_a_client_sum_to_its_weight(steps: WarehouseSteps, weight: int) -> None:
    shares = steps.shares(f"weight-{weight}", weight, "labeled_timing_distribution")
    assert set(shares) == {str(label) for label in range(len(SENT[weight]))}
    for label, counts in enumerate(SENT[weight]):
        assert shares[str(label)].counts == counts
        assert math.isclose(sum(shares[str(label)].amounts.values()), weight if any(counts.values()) else 0.0)


@TRIED
@given(COUNTS)
def test_a_smoothed_histogram_sums_to_one_and_has_no_empty_bucket(counts: dict[str, int]) -> None:
    values = np.array([list(counts.values())], dtype=np.float64)
    even = smoothed(values, values.sum(axis=1), 1 / values.shape[1])[0]
    assert math.isclose(even.sum(), 1.0)
    assert all(value > 0 for value in even)


@TRIED
@given(COUNTS)
def test_a_key_that_is_no_bucket_is_dropped_but_weighs(counts: dict[str, int]) -> None:
    users = sum(counts.values()) + 5
    row = row_of([*counts.items(), ("off", 5.0)], BucketList(tuple(counts)))
    even = json.loads(row.histogram)
    assert list(even) == list(counts)
    assert row.total_users == users
    assert math.isclose(sum(even.values()), (users - 5 + 1) / (users + 1), abs_tol=0.00005 * len(counts) + 1e-9)


@TRIED
@given(COUNTS, PERCENTS, PERCENTS)
def test_percentiles_are_buckets_and_never_fall(counts: dict[str, int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    entries, buckets = list(counts.items()), numbers(counts)
    assert str(int(percentile(low, entries, buckets))) in counts
    if any(counts.values()):
        assert percentile(low, entries, buckets) <= percentile(high, entries, buckets)


@TRIED
@given(COUNTS, PERCENTS)
def test_a_percentile_is_the_first_bucket_that_reaches_the_share(counts: dict[str, int], percent: float) -> None:
    key = percentile(percent, list(counts.items()), numbers(counts))
    total, wanted = sum(counts.values()), Fraction(str(percent)) / 100
    upto = sum(value for bucket, value in counts.items() if int(bucket) <= key)
    below = sum(value for bucket, value in counts.items() if int(bucket) < key)
    if total:
        assert Fraction(upto, total) >= wanted
        assert Fraction(below, total) < wanted or not any(int(bucket) < key for bucket in counts)


def test_a_histogram_of_nothing_answers_its_largest_key() -> None:
    assert percentile(50, [("10", 0), ("9", 0)], BucketList(("9", "10"))) == 10


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan])
def test_no_percentile_outside_0_to_100(percent: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile(percent, [("1", 1)], BucketList(("1",)))


@TRIED
@given(st.decimals(-1000, 1000, allow_nan=False, places=6))
def test_values_are_rounded_half_away_from_zero(value: Decimal) -> None:
    expected = value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
    assert Decimal(int(ten_thousandths(np.array([float(value)]))[0])) / 10_000 == expected


@TRIED
@given(st.decimals(0, 1, allow_nan=False, places=6))
def test_a_share_is_written_as_rounded(value: Decimal) -> None:
    [text] = share_texts(ten_thousandths(np.array([[float(value)]])), BucketList(("1",)))
    written = text.removeprefix('{"1":').removesuffix("}")
    assert Decimal(written) == value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
    assert written == "0" or not written.endswith("0")


@TRIED
@given(st.permutations([Fraction(1, 7), Fraction(2, 7), Fraction(4, 7), Fraction(1, 3), Fraction(2, 3)] * 4))
def test_the_stored_value_does_not_depend_on_the_order_of_a_sum(shares: list[Fraction]) -> None:
    assert ten_thousandths(np.array([sum(float(share) for share in shares) / 160000])).tolist() == [1]


@TRIED
@given(COUNTS)
def test_json_keeps_numeric_order_and_whole_numbers(counts: dict[str, int]) -> None:
    buckets = numbers(counts)
    [text] = count_texts(np.array([[counts[key] for key in buckets.keys]]), buckets)
    assert json.loads(text) == counts
    assert [int(key) for key in json.loads(text)] == sorted(int(key) for key in counts)
    assert "." not in text


@TRIED
@given(st.integers(0, 2**45), st.sampled_from([8, 16]))
def test_functional_buckets_rise_from_0_and_end_at_the_largest(largest: int, per_magnitude: int) -> None:
    bounds = glean_buckets.functional_buckets(2, per_magnitude, largest)
    assert bounds[0] == 0
    assert all(low < high for low, high in pairwise(bounds))
    assert bounds[-1] <= largest < bounds[-1] * 2 + 1


@pytest.mark.parametrize("largest", [-1, -(2**40)])
def test_no_functional_buckets_where_nothing_was_seen(largest: int) -> None:
    assert glean_buckets.functional_buckets(2, 8, largest) == []


@TRIED
@given(st.floats(0.01, 2**40), st.floats(0.01, 2**40))
def test_scalar_buckets_rise_from_1_as_far_as_the_values_lie_apart(one: float, other: float) -> None:
    low, high = sorted((one, other))
    bounds = [float(bound) for bound in scalar_buckets_between(low, high)]
    if math.log2(low) == math.log2(high):  # as those of neighbouring floats may be
        assert bounds == []
        return
    assert len(bounds) == 100
    assert all(below <= above for below, above in pairwise(bounds))
    assert bounds[0] == 1
    assert bounds[-1] <= (high / low) * (1 + 1e-12) + 0.006


@TRIED
@given(st.integers(0, 20), st.integers(60, 10_000), st.integers(3, 20))
def test_buckets_of_custom_distributions_rise_to_their_maximum(smallest: int, largest: int, count: int) -> None:
    for make in (glean_buckets.exponential_buckets, glean_buckets.linear_buckets):
        bounds = make(smallest, largest, count)
        assert bounds[0] == 0
        assert bounds[-1] == largest
        assert len(bounds) == count


def test_what_is_no_build_id_has_no_hour(steps: WarehouseSteps) -> None:
    texts = ["", "2020060514141", "20201305141414", "20200605", "x" * 14, "²0200605141414", "20200605241414"]
    assert steps.build_hours("fog", [*texts, "20200605141414"]) == {"20200605141414": "2020060514"}


def test_what_is_no_fenix_build_has_no_hour(steps: WarehouseSteps) -> None:
    texts = ["", "2020060514141", "20009999", "29990000", "13660000", "x" * 8, "²0010000", "²000000000"]
    assert steps.build_hours("fenix", [*texts, "23660000"]) == {"23660000": "2020123100"}


def test_a_ten_digit_fenix_build_counts_hours_since_2014(steps: WarehouseSteps) -> None:
    hours = 44_000  # 2020-01-04 08:00
    build_id = str((hours << 3) | 5 | (1 << 30)).rjust(10, "0")
    assert steps.build_hours("fenix", [build_id]) == {build_id: "2020010408"}


def test_thresholds_are_those_of_the_etl_unless_told() -> None:
    thresholds = Thresholds()
    assert thresholds.of("fog", "release") == Minimum(450_000, 100)
    assert thresholds.of("fenix", "nightly") == Minimum(800, 10)
    assert thresholds.of("fog", "esr") == thresholds.otherwise
    told = Thresholds.of_settings({"fog/beta": "15/3"})
    assert (told.of("fog", "beta"), told.of("fog", "release")) == (Minimum(15, 3), Minimum(450_000, 100))
    everybody = Thresholds.of_settings({"fog/beta": "15/3", "*": "5/1"})
    assert (everybody.of("fog", "beta"), everybody.of("fog", "release")) == (Minimum(15, 3), Minimum(5, 1))
