"""A build agrees with the assertions of mozfun, the library that the nightly ETL runs.

Each runs through a step of a build: in the warehouse on pings that give the step the assertion's input, or in Python.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.aggregates.bucket_list import BucketList, distribution_buckets
from builder.aggregates.definition import Definition
from builder.aggregates.json_texts import count_texts, share_texts
from builder.aggregates.probe import Combination
from builder.aggregates.scalar_ranges import scalar_buckets, scalar_buckets_between
from builder.aggregates.statistics import smoothed, ten_thousandths
from tests.builder.build_steps import WarehouseSteps, ordered, percentile, pings_a_day, row_of
from tests.support.glam_today_reference import Ping
from tests.support.ping_warehouse import warehouse

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "statistics_vectors.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text()) if VECTORS.exists() else []
NAMES = {f"{case['function']}-{number}": case for number, case in enumerate(CASES)}
NOT_IN_A_BUILD = {
    "safe_sample_id": "the pings bring their sample_id along; tests/warehouse proves it of the sample pings",
}
WHOLE = 1  # a share is at most that

Rows = list[list[Any]]


def pairs(rows: Rows) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in rows]


def build_date(hour: str) -> str:
    date = Combination("", 150, "*", "*", hour, "").build_date
    assert date is not None
    return date.strftime("%Y-%m-%dT%H:%M:%S")


def cast_json(rows: Rows) -> str:
    """Return the numbers as a build writes them: one above 1 can only be a count."""
    texts = []
    for key in ordered([key for key, _ in rows]).keys:
        value, bucket = dict(pairs(rows))[key], BucketList((key,))
        share = value <= WHOLE
        [text] = (
            share_texts(ten_thousandths(np.array([[float(value)]])), bucket)
            if share
            else count_texts(np.array([[value]]), bucket)
        )
        texts.append(text.strip("{}"))
    return f"{{{','.join(texts)}}}"


def fill_buckets(rows: Rows, bounds: list[str]) -> Rows:
    filled = json.loads(row_of(pairs(rows), BucketList(tuple(bounds))).non_norm_histogram)
    return [[key, value] for key, value in filled.items()]


def fill_buckets_dirichlet(rows: Rows, bounds: list[str], users: int) -> Rows:
    filled = fill_buckets(rows, list(ordered(bounds).keys))
    values = np.array([[value for _, value in filled]], dtype=np.float64)
    even = smoothed(values, np.array([users], dtype=np.float64), 1 / values.shape[1])[0].tolist()
    return [[key, value] for (key, _), value in zip(filled, even, strict=True)]


def functional_buckets(base: int, per_magnitude: int, largest: int) -> list[int]:
    metric_type = {(2, 8): "timing_distribution", (2, 16): "memory_distribution"}[base, per_magnitude]
    return [int(key) for key in distribution_buckets(metric_type, Definition(), {str(largest)}).keys]


STATISTICS: dict[str, Callable[..., Any]] = {
    "build_hour_to_datetime": build_date,
    "histogram_cast_json": cast_json,
    "histogram_fill_buckets": fill_buckets,
    "histogram_fill_buckets_dirichlet": fill_buckets_dirichlet,
    "histogram_generate_exponential_buckets": lambda *args: Definition("exponential", *args).custom_buckets(),
    "histogram_generate_functional_buckets": functional_buckets,
    "histogram_generate_linear_buckets": lambda *args: Definition("linear", *args).custom_buckets(),
    "histogram_generate_scalar_buckets": lambda *args: [float(text) for text in scalar_buckets(*args)],
    "percentile": lambda percent, rows: percentile(percent, pairs(rows), ordered([key for key, _ in rows])),
}


def bucket_from_value(steps: WarehouseSteps, _: str, texts: list[str], value: float) -> float | None:
    bounds = sorted(map(float, texts))
    number = steps.bucket_number(bounds, value)
    return bounds[number - 1] if number else None


def filter_high_values(steps: WarehouseSteps, channel: str, rows: Rows) -> Rows:
    shares = steps.shares(channel, 1)
    counts = shares[""].counts if shares else {}
    return [[key, counts[key]] for key in dict(pairs(rows)) if key in counts]


def normalized_sum(steps: WarehouseSteps, channel: str, rows: Rows, weight: float) -> Rows:
    return [[key, share] for key, share, _ in normalized_sum_with_original(steps, channel, rows, weight)]


def normalized_sum_with_original(steps: WarehouseSteps, channel: str, rows: Rows, weight: float) -> Rows:
    shares = steps.shares(channel, int(weight))[""]
    return [[key, shares.amounts[key], shares.counts[key]] for key in dict(pairs(rows))]


IN_THE_WAREHOUSE: dict[str, Callable[..., Any]] = {
    "build_seconds_to_hour": lambda steps, _, build_id: steps.build_hours("fog", [build_id]).get(build_id),
    "fenix_build_to_build_hour": lambda steps, _, build_id: steps.build_hours("fenix", [build_id]).get(build_id),
    "histogram_bucket_from_value": bucket_from_value,
    "histogram_filter_high_values": filter_high_values,
    "histogram_normalized_sum": normalized_sum,
    "histogram_normalized_sum_with_original": normalized_sum_with_original,
}


def pings_of(channel: str, case: dict[str, Any]) -> list[Ping]:
    """Return the pings of the client that a case is about, on a channel of their own."""
    function, args = case["function"], case["args"]
    of_a_histogram = function.startswith("histogram") and function != "histogram_bucket_from_value"
    return pings_a_day(channel, pairs(args[0])) if of_a_histogram else []


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarehouseSteps]:
    cases = {name: case for name, case in NAMES.items() if case["function"] in IN_THE_WAREHOUSE}
    pings = [ping for name, case in cases.items() for ping in pings_of(name, case)]
    with warehouse(tmp_path_factory.mktemp("vectors") / "pings.duckdb", pings) as client:
        yield WarehouseSteps(client)


@pytest.mark.skipif(not CASES, reason=f"the vectors are not here: {VECTORS.name}")
def test_there_are_as_many_vectors_as_the_specification_says() -> None:
    assert len(CASES) == 39
    functions = {case["function"] for case in CASES}
    assert functions == {*STATISTICS, *IN_THE_WAREHOUSE, *NOT_IN_A_BUILD}
    assert len(functions) == len(STATISTICS) + len(IN_THE_WAREHOUSE) + len(NOT_IN_A_BUILD)


@pytest.mark.parametrize("name", [name for name, case in NAMES.items() if case["function"] in STATISTICS])
def test_vector_of_the_statistics(name: str) -> None:
    case = NAMES[name]
    function = STATISTICS[case["function"]]
    if case["expect"] == "ERROR":
        with pytest.raises(ValueError, match="between 0 and 100"):
            function(*case["args"])
    else:
        assert function(*case["args"]) == case["expect"]


@pytest.mark.parametrize("name", [name for name, case in NAMES.items() if case["function"] in IN_THE_WAREHOUSE])
def test_vector_of_the_warehouse(steps: WarehouseSteps, name: str) -> None:
    case = NAMES[name]
    assert IN_THE_WAREHOUSE[case["function"]](steps, name, *case["args"]) == case["expect"]


def test_the_bounds_of_scalars_are_the_same_in_the_warehouse(steps: WarehouseSteps) -> None:
    numbers = [0, 0.5, 1, 1.5, 2, 3, 7, 100, 1_234.25, 99_999, 2**31, 3**20, 2**40]
    pairs = [(smallest, largest) for smallest in numbers for largest in numbers]
    found = steps.scalar_bounds([smallest for smallest, _ in pairs], [largest for _, largest in pairs])
    for (smallest, largest), bounds in zip(pairs, found, strict=True):
        assert bounds == [float(text) for text in scalar_buckets_between(smallest, largest)], (smallest, largest)
