"""Data for charts over time, on the overview and on the pages of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, object]
SERIES = {"found": "data found", "missing": "not built"}


def views_over_time(buckets: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each bucket and kind of view."""
    return [
        {"start": bucket["start"], "series": words, "value": bucket[name]}
        for bucket in buckets
        for name, words in SERIES.items()
    ]


def visitors_over_time(buckets: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each bucket."""
    return [{"start": bucket["start"], "series": "visitors", "value": bucket["visitors"]} for bucket in buckets]


def sessions_over_time(buckets: Sequence[Mapping[str, Any]], roles: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each bucket of the time series, with 0 for a bucket without sessions."""
    counted = {role["start"]: role["sessions"] for role in roles}
    return [
        {"start": bucket["start"], "series": "sessions", "value": counted.get(bucket["start"], 0)} for bucket in buckets
    ]


def over_time(series: Mapping[str, Any] | None, sessions: Sequence[Mapping[str, Any]] | None) -> dict[str, list[Row]]:
    """Return the rows of the overview's charts by title; a chart without an answer is left out."""
    if series is None:
        return {}
    buckets = series["series"][0]["buckets"]
    charts = {"Views": views_over_time(buckets), "Visitors": visitors_over_time(buckets)}
    if sessions is not None:
        charts["Sessions"] = sessions_over_time(buckets, sessions)
    return charts


def release_lines(impacts: Mapping[str, Any] | None) -> list[Row]:
    """Return a row for each release, for the vertical line at its date."""
    releases = impacts["releases"] if impacts else []
    return [
        {"start": release["published_at"], "release": f"{release['channel']} {release['version']}"}
        for release in releases
    ]
