"""Scalars: from the clients counted in each bucket to rows."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from builder.buckets import scalar_buckets_between
from builder.histogram import cast_json, fill_buckets_dirichlet, percentiles
from builder.probe import ANY, ClientGroup, Combination, ProbeRow
from builder.sample_counts import SampleCounts
from builder.sampling import SAMPLED_OS, SAMPLED_SINCE_VERSION

# Added to a bound before it is written with two decimals, so that binary noise never takes a hundredth off.
FORMAT_MARGIN = 0.0001


class ScalarRange:
    """What the first pass tells: the buckets of the probe, and its sample counts."""

    def __init__(self, ranges: Iterable[Mapping[str, Any]], windows_weight: int) -> None:
        """`ranges` are the rows of scalar_range.sql."""
        self.samples = SampleCounts(windows_weight)
        smallest, largest = [], []
        for row in ranges:
            group = ClientGroup(row["version"], ANY, row["os"], row["build_hour"])
            self.samples.add(group, round(row["samples"]))
            smallest.append(row["smallest"])
            largest.append(row["largest"])
        self.empty = not smallest
        self.buckets = [] if self.empty else scalar_buckets_between(min(smallest), max(largest))


class ScalarTable:
    """Distinct clients of each combination, aggregate and bucket; None for those below all buckets."""

    def __init__(self, counts: Iterable[Mapping[str, Any]], known: ScalarRange, windows_weight: int) -> None:
        """`counts` are the rows of scalar_counts.sql, made with the buckets of `known`."""
        self._known = known
        self._windows_weight = windows_weight
        self._clients: dict[tuple[Combination, str], dict[str | None, int]] = {}
        for row in counts:
            combination = Combination(row["version"], row["ping_type"], row["os"], row["build_hour"])
            by_bucket = self._clients.setdefault((combination, row["client_agg_type"]), {})
            by_bucket[bucket_name(row["bucket"])] = row["clients"]

    def rows(self, metric_type: str, minimum_users: int) -> Iterator[ProbeRow]:
        """The rows with more users than the minimum, sampling made good."""
        for (combination, client_agg_type), clients in self._clients.items():
            users = self._total_users(combination, client_agg_type)
            if users > minimum_users:
                yield self._row(metric_type, combination, client_agg_type, clients, users)

    def _counted(self, combination: Combination, client_agg_type: str) -> int:
        return sum(self._clients.get((combination, client_agg_type), {}).values())

    def _total_users(self, combination: Combination, client_agg_type: str) -> int:
        """Windows clients stand for `windows_weight` each, in their own row and, since all were counted, in `*`."""
        counted = self._counted(combination, client_agg_type)
        if combination.version < SAMPLED_SINCE_VERSION or combination.os not in (SAMPLED_OS, ANY):
            return counted
        windows = self._counted(combination._replace(os=SAMPLED_OS), client_agg_type)
        return counted + (self._windows_weight - 1) * windows

    def _row(
        self,
        metric_type: str,
        combination: Combination,
        client_agg_type: str,
        clients: Mapping[str | None, int],
        users: int,
    ) -> ProbeRow:
        in_buckets = {bucket: float(count) for bucket, count in clients.items() if bucket is not None}
        counted = self._counted(combination, client_agg_type)
        smoothed = fill_buckets_dirichlet(in_buckets, self._known.buckets, counted)
        histogram, percents = cast_json(smoothed), cast_json(percentiles(smoothed))
        return ProbeRow(
            version=combination.version,
            ping_type=combination.ping_type,
            os=combination.os,
            app_build_id=combination.build_hour,
            metric_type=metric_type,
            metric_key="",
            client_agg_type=client_agg_type,
            total_users=users,
            total_sample=self._known.samples.total(combination),
            histogram=histogram,
            percentiles=percents,
            non_norm_histogram=histogram,
            non_norm_percentiles=percents,
            build_date=combination.build_date,
        )


def bucket_name(bound: float | None) -> str | None:
    """A bound as the key of its bucket."""
    return None if bound is None else f"{bound + FORMAT_MARGIN:.2f}"
