"""Data for charts over time, on the overview and on the pages of probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from usage_service.web.pages.presentation.comparison import Change, Compared

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


VALUES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "Views": lambda bucket: bucket["views"],
    "Visitors": lambda bucket: bucket["visitors"],
    "Sessions": lambda bucket: bucket["sessions"],
}


def over_time(series: Mapping[str, Any] | None, sessions: Sequence[Mapping[str, Any]] | None) -> dict[str, list[Row]]:
    """Return the rows of the overview's charts by title; a chart without an answer is left out."""
    if series is None:
        return {}
    buckets = buckets_of(series)
    charts = {"Views": views_over_time(buckets), "Visitors": visitors_over_time(buckets)}
    if sessions is not None:
        charts["Sessions"] = sessions_over_time(buckets, sessions)
    return charts


def before_over_time(
    compared: Compared | None, series: Mapping[str, Any] | None, sessions: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, list[Row]]:
    """Return the rows of the days compared with, by the title of the chart that they are drawn in; none without any."""
    drawn: dict[str, list[Row]] = {title: [] for title in VALUES}
    if compared:
        others = {"Views": buckets_of(series), "Visitors": buckets_of(series), "Sessions": sessions or []}
        drawn |= {title: compared.rows(buckets, VALUES[title]) for title, buckets in others.items()}
    return drawn


def changes(compared: Compared | None, now: Sequence[Any], before: Sequence[Any]) -> dict[str, Change]:
    """Return how much the overview's numbers changed, each from an answer of time series and one of sessions."""
    if compared is None or None in now or None in before:
        return {}
    (series, sessions), (series_before, sessions_before) = now, before
    buckets, others = buckets_of(series), buckets_of(series_before)
    return {
        "views": compared.change(buckets, others, VALUES["Views"]),
        "missing": compared.change(buckets, others, lambda bucket: float(bucket["missing"])),
        "sessions": compared.change(sessions, sessions_before, VALUES["Sessions"]),
    }


def buckets_of(series: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Return the buckets of the first series of an answer; none without an answer."""
    return series["series"][0]["buckets"] if series else []


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


def mark_name(mark: Mapping[str, Any]) -> str:
    """Return the name of a mark: channel and version of a release, else the label of the event, or just that it is."""
    return f"{mark['channel']} {mark['version']}" if mark["version"] is not None else mark["label"] or "event"


def _published(release: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(release["published_at"])


def _mark(group: Sequence[Mapping[str, Any]]) -> Row:
    names = [mark_name(release) for release in group]
    label = ", ".join(names)
    if len(label) > LONGEST_LABEL and len(names) > 1:
        label = f"{names[0]} and {len(names) - 1} more"
    if len(label) > LONGEST_LABEL:
        label = label[: LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return {"start": group[0]["published_at"], "release": label, "releases": ", ".join(names)}
