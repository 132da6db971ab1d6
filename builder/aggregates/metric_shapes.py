"""The metric types that can be built, with the columns of their values and the way they are aggregated."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from builder.aggregates.definition import Definition
from builder.errors import UnsupportedMetricError
from builder.queries import render
from usage_service.shared.bigquery.statement import identifier


class Family(Enum):
    """The ways in which the values of a probe become rows."""

    SCALAR = "scalar"
    BOOLEAN = "boolean"
    DISTRIBUTION = "distribution"


@dataclass(frozen=True)
class MetricShape:
    """A metric type: its family, the `.sql` file that takes its values out of the pings, and the field they are in.

    `values` is the `.sql` file that narrows the column down to the fields that are used, where one name does not.
    """

    family: Family
    sent: str
    field: str = ""
    values: str | None = None

    def value(self, metric_type: str, probe: str) -> str:
        """Return the SQL expression of the probe's own column, the only one of `metrics` that may be read."""
        column = f"metrics.{identifier(metric_type)}.{identifier(probe)}{self.field}"
        return render(self.values, column=column) if self.values else column


DAYS_OF_VALUES = "days_of_values"  # already by client and day, all the pings of it counted
_SCALAR = MetricShape(Family.SCALAR, DAYS_OF_VALUES)
_DISTRIBUTION = MetricShape(Family.DISTRIBUTION, "sent_buckets", field=".values")
_LABELED_DISTRIBUTION = MetricShape(Family.DISTRIBUTION, "sent_labeled_buckets", values="labeled_values")
_DECLARED_LABELS = MetricShape(Family.DISTRIBUTION, "sent_declared_labels")

SHAPES: Mapping[str, MetricShape] = MappingProxyType({
    "boolean": MetricShape(Family.BOOLEAN, "sent_value"),
    "labeled_boolean": MetricShape(Family.BOOLEAN, "sent_labels"),
    "counter": _SCALAR,
    "quantity": _SCALAR,
    "timespan": MetricShape(Family.SCALAR, DAYS_OF_VALUES, field=".value"),
    "labeled_counter": MetricShape(Family.SCALAR, "sent_labels"),
    "dual_labeled_counter": MetricShape(Family.SCALAR, "sent_dual_labels"),
    "timing_distribution": _DISTRIBUTION,
    "memory_distribution": _DISTRIBUTION,
    "custom_distribution": _DISTRIBUTION,
    "labeled_timing_distribution": _LABELED_DISTRIBUTION,
    "labeled_memory_distribution": _LABELED_DISTRIBUTION,
    "labeled_custom_distribution": _LABELED_DISTRIBUTION,
})  # fmt: skip


def shape_of(metric_type: str, probe: str, definition: Definition) -> MetricShape:
    """Return the shape of a probe. Raise UnsupportedMetricError for a type that is never built.

    Hidden probes never come here: `hidden_probes` in schema.sql keeps them from being requested.
    """
    if metric_type not in SHAPES:
        known = ", ".join(sorted(SHAPES))
        raise UnsupportedMetricError(f"{probe} is a {metric_type}; only these types are built: {known}")
    if metric_type == "labeled_counter" and definition.labels:
        return _DECLARED_LABELS
    return SHAPES[metric_type]
