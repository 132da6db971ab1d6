"""What the overview and the pages of probes draw over time: rows of charts, and values of sparklines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, object]
SERIES = {"found": "data was there", "missing": "not built"}


def views_over_time(buckets: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row a bucket and kind of view."""
    return [
        {"start": bucket["start"], "series": words, "value": bucket[name]}
        for bucket in buckets
        for name, words in SERIES.items()
    ]


def visitors_over_time(buckets: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row a bucket."""
    return [{"start": bucket["start"], "series": "visitors", "value": bucket["visitors"]} for bucket in buckets]


def sessions_over_time(buckets: Sequence[Mapping[str, Any]], roles: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row a bucket of the time series; those without a session have 0."""
    counted = {role["start"]: role["sessions"] for role in roles}
    return [
        {"start": bucket["start"], "series": "sessions", "value": counted.get(bucket["start"], 0)} for bucket in buckets
    ]


def over_time(series: Mapping[str, Any] | None, sessions: Sequence[Mapping[str, Any]] | None) -> dict[str, list[Row]]:
    """The charts of the overview: their titles and rows, of what there is an answer for."""
    if series is None:
        return {}
    buckets = series["series"][0]["buckets"]
    charts = {"Views": views_over_time(buckets), "Visitors": visitors_over_time(buckets)}
    if sessions is not None:
        charts["Sessions"] = sessions_over_time(buckets, sessions)
    return charts


def release_marks(impacts: Mapping[str, Any] | None) -> list[Row]:
    """A row a release, for the lines that mark them."""
    releases = impacts["releases"] if impacts else []
    return [
        {"start": release["published_at"], "release": f"{release['channel']} {release['version']}"}
        for release in releases
    ]
