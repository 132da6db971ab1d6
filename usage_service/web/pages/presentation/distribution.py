"""Data for charts of a probe's rows: bands of percentiles over builds, histograms, and shares of categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
ALL = "*"
BANDS = {"p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95}
MOST_DRAWN = 8  # categories: the pages have a colour for each
OTHERS = "all others"


def sums_builds(row: Row) -> bool:
    """Return whether the clients of a row are a sum: a distribution counts a client once on each of its builds."""
    return (row["build_id"], row["client_agg_type"]) == (ALL, "summed_histogram")


def percentiles_of(row: Row) -> dict[str, float]:
    """Return the percentiles of a row that are drawn."""
    given = {float(percent): value for percent, value in row["percentiles"].items()}
    return {name: float(given[percent]) for name, percent in BANDS.items() if percent in given}


def is_numeric(row: Row) -> bool:
    """Return whether the buckets are numbers, not labels or booleans."""
    return bool(row["percentiles"])


def unit_of_row(row: Row, unit: str | None) -> str | None:
    """Return the unit of a row's values: how often a client sent something is a count, whatever was sent."""
    return None if row["client_agg_type"] == "count" else unit


def bands_over_builds(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the percentiles of each build, the oldest first; `start` is the hour of the build."""
    return [
        {"start": build_start(row["build_id"]), "version": row["version"]} | percentiles_of(row)
        for row in _by_build(rows)
        if is_numeric(row)
    ]


def shares_over_builds(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the share of each category in each build, the oldest first."""
    return [
        {"start": build_start(row["build_id"]), "series": name, "value": value, "version": row["version"]}
        for row in _by_build(rows)
        for name, value in row["histogram"].items()
    ]


def largest_shares(shares: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return the shares to draw: of more categories than there are colours, the smallest are added up as others."""
    sums: defaultdict[str, float] = defaultdict(float)
    for share in shares:
        sums[share["series"]] += share["value"]
    if len(sums) <= MOST_DRAWN:
        return [dict(share) for share in shares]
    own = set(sorted(sums, key=lambda name: (-sums[name], name))[: MOST_DRAWN - 1])
    drawn: dict[tuple[object, str], dict[str, Any]] = {}
    for share in shares:
        name = share["series"] if share["series"] in own else OTHERS
        added = drawn.setdefault((share["start"], name), {**share, "series": name, "value": 0.0})
        added["value"] += share["value"]
    return list(drawn.values())


def histogram_of(row: Row) -> list[dict[str, object]]:
    """Return the buckets from the first to the last that is not empty; each ends where the next begins."""
    buckets = [(float(key), float(value)) for key, value in row["histogram"].items()]
    filled = [place for place, (_, value) in enumerate(buckets) if value > 0]
    if not filled:
        return []
    ends = [key for key, _ in buckets[1:]] + [_end_of_last([key for key, _ in buckets])]
    shown = range(filled[0], filled[-1] + 1)
    return [{"from": buckets[place][0], "to": ends[place], "share": buckets[place][1]} for place in shown]


def categories_of(row: Row) -> list[dict[str, object]]:
    """Return the share of each category, the largest first."""
    shares = sorted(row["histogram"].items(), key=lambda share: (-share[1], share[0]))
    return [{"name": name, "share": value} for name, value in shares]


def build_start(build_id: str) -> str:
    """Return the time of a build of the application, from its id, which is the hour as YYYYMMDDHH."""
    return f"{build_id[:4]}-{build_id[4:6]}-{build_id[6:8]}T{build_id[8:10]}:00:00Z"


def chosen_row(rows: Sequence[Row], version: int, build_id: str) -> Row | None:
    """Return the row of a version and build, or None."""
    return next((row for row in rows if row["version"] == version and row["build_id"] == build_id), None)


def _end_of_last(starts: Sequence[float]) -> float:
    """Return the end of the last bucket: its start times the ratio of the last two starts, or plus 1 without one."""
    before = starts[-2] if len(starts) > 1 else 0.0
    return starts[-1] ** 2 / before if before > 0 else starts[-1] + 1


def _by_build(rows: Sequence[Row]) -> list[Row]:
    return sorted((row for row in rows if row["build_id"] != ALL), key=lambda row: str(row["build_id"]))
