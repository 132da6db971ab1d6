"""Bucket lists of histograms, as Glean or the definition of a metric makes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from builder.aggregates.definition import Definition
from usage_service.shared.glean_buckets import functional_buckets

PER_MAGNITUDE = {"timing": 8, "memory": 16}  # buckets in each power of two (Glean book)
CUSTOM = "custom_distribution"
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True)
class BucketList:
    """The keys of a histogram in their order. Only numeric keys have percentiles.

    `smoothed_over`: how many buckets share the weight of the prior, where it is not the number of keys.
    """

    keys: tuple[str, ...]
    numeric: bool = True
    smoothed_over: int | None = None

    @property
    def prior(self) -> float:
        """Return the prior of each bucket: all together weigh as much as one client."""
        return 1 / max(len(self.keys) if self.smoothed_over is None else self.smoothed_over, 1)

    @cached_property
    def places(self) -> dict[str, int]:
        """Return the place of each key in the list."""
        return {key: place for place, key in enumerate(self.keys)}

    @cached_property
    def template(self) -> str:
        """Return the JSON object of a histogram with `%s` in place of each value."""
        return json_template(self.keys)

    @cached_property
    def json_numbers(self) -> list[str]:
        """Return each key as a JSON number, its decimals without zeros at the end; a percentile is such a number."""
        return [key.rstrip("0").rstrip(".") if "." in key else key for key in self.keys]


def json_template(keys: Iterable[str]) -> str:
    """Return a JSON object with `%s` in place of each value: much faster to fill in than to put together."""
    fields = (f"{json.dumps(key)}:".replace("%", "%%") + "%s" for key in keys)
    return f"{{{','.join(fields)}}}"


BOOLEANS = BucketList(("always", "never", "sometimes"), numeric=False)


def stored_type(metric_type: str, definition: Definition) -> str:
    """Return the metric type of the rows, which names the kind of buckets of a custom distribution."""
    return f"{metric_type}_{definition.kind()}" if metric_type.endswith(CUSTOM) else metric_type


def distribution_buckets(metric_type: str, definition: Definition, seen: Iterable[str]) -> BucketList:
    """Return the buckets of a distribution whose pings have the keys `seen`; declared labels are buckets themselves."""
    if metric_type == "labeled_counter":
        return BucketList(tuple(sorted(seen)), numeric=False)
    if metric_type.endswith(CUSTOM):
        bounds = definition.custom_buckets()
    else:
        largest = max((int(key) for key in seen if WHOLE_NUMBER.fullmatch(key)), default=-1)
        bounds = functional_buckets(2, PER_MAGNITUDE[metric_type.split("_")[-2]], largest)
    return BucketList(tuple(map(str, bounds)))
