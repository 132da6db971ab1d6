"""Charts of the pages, each made of its rows: their tips, their axes, and what is not over yet told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from usage_service.web.pages.presentation.charts import Specification, Tip, chart, measured
from usage_service.web.pages.presentation.distribution import ALL, BANDS, build_start
from usage_service.web.pages.presentation.units import SHARE, caption
from usage_service.web.pages.presentation.units import measured as in_words
from usage_service.web.pages.presentation.words import moment, number, plain

Row = Mapping[str, Any]
NOT_OVER = "not over yet"
NO_TIME = timedelta(0)


def counted_chart(
    rows: Sequence[Row],
    releases: Sequence[Row],
    step: timedelta,
    now: datetime,
    before: Sequence[Row] = (),
) -> Specification:
    """Return a chart of bars: numbers in buckets of a step, stacked by series, and those compared with as a line."""
    drawn = [dict(row) | _bounds(row, step) | {"running": _is_running(row, step, now)} for row in rows]
    compared = {_instant(row["start"]): (row["series"], number(row["value"])) for row in before}
    tips = [
        Tip(
            _at(start, step / 2),
            moment(start) + _state(start, step, now),
            _counted_lines(list(group)) + [compared[place] for place in [_instant(start)] if place in compared],
        )
        for start, group in groupby(drawn, key=itemgetter("start"))
    ]
    specification = measured(chart("over_time", tips, rows=drawn, before=before, releases=releases), "y", None)
    usermeta = specification["usermeta"] | {"width": step.total_seconds()}  # of a place on the x-axis
    return specification | {"usermeta": usermeta}


def bands_chart(
    bands: Sequence[Row], unit: str | None, releases: Sequence[Row] = (), build: str = ALL
) -> Specification:
    """Return a chart of percentiles over builds, with the first build of each version, releases and a chosen build."""
    tips = [Tip(row["start"], _build_title(row), _band_lines(row, unit)) for row in bands]
    chosen = [row for row in bands if build not in (ALL, "") and row["start"] == build_start(build)]
    specification = chart("bands", tips, bands=bands, versions=first_builds(bands), releases=releases, chosen=chosen)
    return measured(specification, "y", unit, [row[name] for row in bands for name in BANDS if name in row])


def shares_chart(
    shares: Sequence[Row],
    releases: Sequence[Row] = (),
    step: timedelta = NO_TIME,
    now: datetime | None = None,
) -> Specification:
    """Return a chart of shares over time or builds; the bucket that is not over is dashed."""
    drawn = [dict(row) | {"running": now is not None and _is_running(row, step, now)} for row in shares]
    running = [row["start"] for row in drawn if row["running"]]
    over = [row["start"] for row in drawn if not row["running"]]
    # From the last one that is over on.
    dashed = [row for row in drawn if running and row["start"] in (running[-1], *over[-1:])]
    tips = []
    for start, group in groupby(drawn, key=itemgetter("start")):
        at_start = list(group)
        lines = [(str(row["series"]), in_words(row["value"], SHARE)) for row in at_start]
        title = _build_title(at_start[0]) + (f", {NOT_OVER}" if at_start[0]["running"] else "")
        tips.append(Tip(start, title, lines))
    specification = chart(
        "shares", tips, shares=drawn, running=dashed, versions=first_builds(shares), releases=releases
    )
    return measured(specification, "y", SHARE)


def histogram_chart(buckets: Sequence[Row], unit: str | None) -> Specification:
    """Return a chart of the share of each bucket; of whole numbers each is a bar in the middle of its number."""
    whole = are_whole_numbers(buckets)
    shift = 0.5 if whole else 0
    drawn = [dict(bucket) | {"left": bucket["from"] - shift, "right": bucket["to"] - shift} for bucket in buckets]
    tips, sum_up_to = [], 0.0
    for bucket in buckets:
        sum_up_to += bucket["share"]
        middle = bucket["from"] if whole else (bucket["from"] + bucket["to"]) / 2
        below = in_words(bucket["to"], unit)
        title = in_words(bucket["from"], unit) if whole else f"{in_words(bucket['from'], unit)} to {below}"
        lines = [("share of clients", in_words(bucket["share"], SHARE)), (f"below {below}", in_words(sum_up_to, SHARE))]
        tips.append(Tip(middle, title, lines))
    edges = [] if whole else [edge for bucket in drawn for edge in (bucket["left"], bucket["right"])]
    made = measured(measured(chart("histogram", tips, buckets=drawn), "y", SHARE), "x", unit, edges)
    x = made["encoding"]["x"] | {"title": caption(unit) or None}
    if whole:
        x = x | {"axis": x["axis"] | {"tickMinStep": 1}}
    if not has_log_axis(made, "x"):
        x = x | {"scale": {"zero": False, "nice": False}}
    return made | {"encoding": made["encoding"] | {"x": x}}


def compared_chart(rows: Sequence[Row], unit: str | None) -> Specification:
    """Return a chart of the shares of two sides, a line for each."""
    tips = []
    for start, group in groupby(sorted(rows, key=itemgetter("from")), key=itemgetter("from")):
        buckets = list(group)
        title = f"{in_words(start, unit)} to {in_words(max(bucket['to'] for bucket in buckets), unit)}"
        lines = [(str(bucket["side"]), in_words(bucket["share"], SHARE)) for bucket in buckets]
        tips.append(Tip(start, title, lines))
    edges = [bucket[edge] for bucket in rows for edge in ("from", "to")]
    made = measured(measured(chart("compared", tips, rows=rows), "x", unit, edges), "y", SHARE)
    x = made["encoding"]["x"] | {"title": caption(unit) or None}
    return made | {"encoding": made["encoding"] | {"x": x}}


def compared_shares_chart(rows: Sequence[Row]) -> Specification:
    """Return a chart of the shares of categories of two sides, each bar with its share beside it."""
    drawn = [dict(row) | {"told": in_words(row["share"], SHARE)} for row in rows]
    height = 24 * len(drawn) + 24  # a height by steps cannot fit its place, as Vega warns
    return measured(chart("compared_shares", rows=drawn), "x", SHARE) | {"height": height}


def are_whole_numbers(buckets: Sequence[Row]) -> bool:
    """Return whether each bucket is one whole number."""
    return all(float(one["from"]).is_integer() and one["to"] - one["from"] == 1 for one in buckets)


def has_log_axis(specification: Specification, channel: str) -> bool:
    """Return whether an axis of a chart is logarithmic."""
    layers = specification.get("layer", [specification])
    return any(layer["encoding"].get(channel, {}).get("scale", {}).get("type") in ("log", "symlog") for layer in layers)


def first_builds(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the first build of each version, of rows in the order of builds; none where all are of one."""
    found: dict[object, object] = {}
    for row in rows:
        if "version" in row:
            found.setdefault(row["version"], row["start"])
    starts = [{"version": str(version), "start": start} for version, start in found.items()]
    return starts if len(starts) > 1 else []


def _counted_lines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    lines = [(str(row["series"]), number(row["value"])) for row in rows]
    total = [("total", number(sum(row["value"] for row in rows)))] if len(rows) > 1 else []
    return lines + total


def _band_lines(row: Row, unit: str | None) -> list[tuple[str, str]]:
    return [(plain(name), in_words(row[name], unit)) for name in reversed(BANDS) if name in row]


def _build_title(row: Row) -> str:
    return moment(row["start"]) + (f", version {row['version']}" if "version" in row else "")


def _bounds(row: Row, step: timedelta) -> dict[str, object]:
    return {"end": _at(row["start"], step)}


def _at(start: str, after: timedelta) -> str:
    return (_instant(start) + after).isoformat()


def _is_running(row: Row, step: timedelta, now: datetime) -> bool:
    return _instant(row["start"]) + step > now


def _state(start: str, step: timedelta, now: datetime) -> str:
    return f", {NOT_OVER}" if _is_running({"start": start}, step, now) else ""


def _instant(start: str) -> datetime:
    return datetime.fromisoformat(start).astimezone(UTC)
