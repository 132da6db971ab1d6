"""Two distributions in one chart, and their difference in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from usage_service.web.pages.presentation.distribution import ALL, histogram_of
from usage_service.web.pages.presentation.drawing import compared_chart, compared_shares_chart
from usage_service.web.pages.presentation.units import SHARE, measured, measured_cell

Answer = Mapping[str, Any]
Row = dict[str, object]
DIMENSIONS = {
    "probe": "{}",
    "channel": "{}",
    "version": "version {}",
    "os": "{}",
    "build_id": "build {}",
    "ping_type": "ping {}",
    "metric_key": "label {}",
    "client_agg_type": "{} of a client",
}
ALL_OF = {"os": "all systems", "build_id": "all builds", "ping_type": "all pings"}


class Drawn(NamedTuple):
    """Names of both sides, the chart of them, its table, and the verdict."""

    names: tuple[str, str]
    chart: dict[str, Any] | None
    columns: list[str]
    rows: list[list[object]]
    verdict: str

    @classmethod
    def of(cls, compared: Answer, unit: str | None) -> Drawn:
        """Return what the page draws of a comparison of values of a unit."""
        names = side_names(compared["first"], compared["second"])
        sides = [(name, compared[side]) for name, side in zip(names, ("first", "second"), strict=True)]
        is_numeric = not compared["categories"]
        rows_of = _buckets if is_numeric else _shares
        is_drawn = compared["percentiles"] or compared["categories"]  # else they have no axis in common
        rows = [row for name, side in sides for row in rows_of(name, side)] if is_drawn else []
        said = verdict(compared, names, unit)
        columns = ["Side", "From", "Below", "Share"] if is_numeric else ["Side", "Category", "Share"]
        return cls(names, _chart(rows, unit, is_numeric), columns, [_cells(row, unit) for row in rows], said)


def side_names(first: Answer, second: Answer) -> tuple[str, str]:
    """Return names of the sides: in what they differ."""
    differing = [name for name in DIMENSIONS if first[name] != second[name]] or ["probe"]
    ours, theirs = (", ".join(_named(name, side[name]) for name in differing) for side in (first, second))
    return ours, theirs


def _named(dimension: str, value: object) -> str:
    return ALL_OF.get(dimension, ALL) if value == ALL else DIMENSIONS[dimension].format(value)


def verdict(compared: Answer, names: tuple[str, str], unit: str | None) -> str:
    """Return in a sentence what the second side differs by from the first."""
    largest = compared["largest"]
    if largest is None:
        return "The two cannot be compared: they share no bucket, or one has a single value."
    difference, at = largest["difference"], largest["at"]
    what = f"have {at}" if isinstance(at, str) else f"have a value of at least {measured(at, unit)}"
    shares = [measured(largest[side], SHARE) for side in ("first", "second")]
    told = f"{shares[0]} of the clients of {names[0]} and {shares[1]} of {names[1]} {what}"
    value, low, high = (f"{difference[name] * 100:+.1f}" for name in ("value", "low", "high"))
    points = f"{value} points ({low} to {high})"
    if compared["differs"]:
        return f"They differ beyond chance. Where they do most, {told}: {points}."
    return f"No difference beyond chance was found. Where they differ most, {told}: {points}."


def _buckets(name: str, side: Answer) -> list[Row]:
    return [{"side": name} | bucket for bucket in histogram_of(side)]


def _shares(name: str, side: Answer) -> list[Row]:
    return [{"side": name, "category": category, "share": value} for category, value in side["histogram"].items()]


def _chart(rows: list[Row], unit: str | None, is_numeric: bool) -> dict[str, Any] | None:
    if not rows:
        return None
    return compared_chart(rows, unit) if is_numeric else compared_shares_chart(rows)


def _cells(row: Row, unit: str | None) -> list[object]:
    return [
        measured_cell(value, SHARE if name == "share" else unit) if isinstance(value, float | int) else value
        for name, value in row.items()
    ]
