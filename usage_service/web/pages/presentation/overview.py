"""Data for charts over time, on the overview and on the pages of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, object]
MOST_MARKS = 28  # lines side by side whose labels do not overprint each other
LONGEST_LABEL = 26  # characters in the height of a chart
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


def release_marks(impacts: Mapping[str, Any] | None, days: int) -> list[Row]:
    """Return a row for each vertical line at the date of releases, for a chart of so many days.

    Releases that are too near to each other to be told apart share a line: `release` is its label, `releases` are all.
    """
    releases = sorted(impacts["releases"], key=_published) if impacts else []
    groups: list[list[Mapping[str, Any]]] = []
    for release in releases:
        if groups and _published(release) - _published(groups[-1][0]) < timedelta(days=days) / MOST_MARKS:
            groups[-1].append(release)
        else:
            groups.append([release])
    return [_mark(group) for group in groups]


def _published(release: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(release["published_at"])


def _mark(group: Sequence[Mapping[str, Any]]) -> Row:
    names = [f"{release['channel']} {release['version']}" for release in group]
    label = ", ".join(names)
    if len(label) > LONGEST_LABEL and len(names) > 1:
        label = f"{names[0]} and {len(names) - 1} more"
    if len(label) > LONGEST_LABEL:
        label = label[: LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return {"start": group[0]["published_at"], "release": label, "releases": ", ".join(names)}
