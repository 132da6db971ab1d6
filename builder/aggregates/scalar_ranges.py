"""The range of a scalar's values, of each label its own, and the buckets made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.buckets import scalar_buckets_between
from builder.errors import PermanentBuildError

MOST_CHARACTERS = 8_000_000  # BigQuery takes a request of 10 MB


class ScalarRanges:
    """The smallest and the largest value of each metric key."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """`rows` are those of scalar_ranges.sql."""
        self._ranges = {row["metric_key"]: (row["smallest"], row["largest"]) for row in rows}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._ranges)

    def buckets(self, metric_key: str) -> BucketList:
        """The buckets of a metric key."""
        return BucketList(tuple(scalar_buckets_between(*self._ranges[metric_key])))

    def parameter(self) -> list[str]:
        """What scalar_cells.sql takes: of each key its bounds with commas between, a bar, and the key itself.

        Raises PermanentBuildError where it is too long for a request.
        """
        texts, length = [], 0
        for key in self._ranges:
            texts.append(f"{','.join(self.buckets(key).keys)}|{key}")
            length += len(texts[-1])
            if length > MOST_CHARACTERS:
                raise PermanentBuildError("tooManyLabels", f"{len(self._ranges):,} labels are too many to build")
        return texts
