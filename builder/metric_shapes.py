"""The metric types that can be built: where their values are and how they are aggregated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from builder.buckets import functional_buckets
from builder.errors import UnsupportedMetricError
from builder.statement import identifier


class Aggregation(Enum):
    """How the values of a probe become rows."""

    SCALAR = "scalar"
    DISTRIBUTION = "distribution"


@dataclass(frozen=True)
class MetricShape:
    """One metric type: its aggregation, the field that holds the value and, of distributions, the bucket growth."""

    aggregation: Aggregation
    suffix: str = ""
    per_magnitude: int = 0

    def buckets(self, largest: int) -> list[int]:
        """The buckets of a distribution up to the largest one seen."""
        return functional_buckets(2, self.per_magnitude, largest)


SHAPES: Mapping[str, MetricShape] = MappingProxyType({
    "counter": MetricShape(Aggregation.SCALAR),
    "timing_distribution": MetricShape(Aggregation.DISTRIBUTION, suffix=".values", per_magnitude=8),
})  # fmt: skip

# Use counters have an ETL of their own; the two others are too large for any.
EXCLUDED = re.compile(r"use[._]?counter.*|sqlite_store_(open|query)")


def shape_of(metric_type: str, probe: str) -> MetricShape:
    """The shape of a metric type. Raises UnsupportedMetricError for a type or a probe that is never built."""
    if EXCLUDED.fullmatch(probe):
        raise UnsupportedMetricError(f"{probe} is left out of the aggregates by name")
    if metric_type not in SHAPES:
        known = ", ".join(sorted(SHAPES))
        raise UnsupportedMetricError(f"{probe} is a {metric_type}; only these types are built: {known}")
    return SHAPES[metric_type]


def value_column(metric_type: str, probe: str) -> str:
    """The probe's own column, the only one of `metrics` that may be read."""
    shape = shape_of(metric_type, probe)
    return f"metrics.{identifier(metric_type)}.{identifier(probe)}{shape.suffix}"
