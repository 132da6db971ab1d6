"""The pure statistics agree with the assertions of mozfun, the library that the nightly ETL runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.aggregates import buckets, build_hour, histogram, sampling
from usage_service.shared import glean_buckets

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "statistics_vectors.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text()) if VECTORS.exists() else []


def pairs(rows: list[list[Any]]) -> list[tuple[str, float]]:
    return [(key, value) for key, value in rows]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "build_hour_to_datetime": lambda hour: build_hour.build_hour_to_datetime(hour).strftime("%Y-%m-%dT%H:%M:%S"),
    "build_seconds_to_hour": build_hour.build_seconds_to_hour,
    "fenix_build_to_build_hour": build_hour.fenix_build_to_build_hour,
    "histogram_bucket_from_value": buckets.bucket_from_value,
    "histogram_cast_json": lambda rows: histogram.cast_json(pairs(rows)),
    "histogram_fill_buckets": lambda rows, bounds: histogram.fill_buckets(dict(pairs(rows)), bounds),
    "histogram_fill_buckets_dirichlet": lambda rows, bounds, users: histogram.fill_buckets_dirichlet(
        dict(pairs(rows)), bounds, users
    ),
    "histogram_filter_high_values": lambda rows: histogram.filter_high_values(pairs(rows)),
    "histogram_generate_exponential_buckets": glean_buckets.exponential_buckets,
    "histogram_generate_functional_buckets": glean_buckets.functional_buckets,
    "histogram_generate_linear_buckets": glean_buckets.linear_buckets,
    "histogram_generate_scalar_buckets": lambda *args: [float(text) for text in buckets.scalar_buckets(*args)],
    "histogram_normalized_sum": lambda rows, weight: histogram.normalized_sum(pairs(rows), weight),
    "histogram_normalized_sum_with_original": lambda rows, weight: histogram.normalized_sum_with_original(
        pairs(rows), weight
    ),
    "percentile": lambda percent, rows: histogram.percentile(percent, pairs(rows)),
    "safe_sample_id": sampling.safe_sample_id,
}


def as_json(value: object) -> object:
    plain: object = json.loads(json.dumps(value))
    return plain


@pytest.mark.skipif(not CASES, reason=f"the vectors are not here: {VECTORS.name}")
def test_there_are_as_many_vectors_as_the_specification_says() -> None:
    assert len(CASES) == 39
    assert {case["function"] for case in CASES} == set(FUNCTIONS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['function']}-{CASES.index(case)}")
def test_vector(case: dict[str, Any]) -> None:
    function = FUNCTIONS[case["function"]]
    if case["expect"] == "ERROR":
        with pytest.raises(ValueError, match="between 0 and 100"):
            function(*case["args"])
    else:
        assert as_json(function(*case["args"])) == case["expect"]
