"""Charts: Vega-Lite specifications from files, filled with rows, axes and tips; and sparklines, which are plain SVG.

A tip is what a chart says at one place on its x-axis, of all that it draws there. The page's script shows that of the
nearest place. Tips travel in the specification's `usermeta`, which Vega passes over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from usage_service.web.pages.presentation.scales import axis_of

SPECIFICATIONS = Path(__file__).parents[1] / "charts"
SPARK_WIDTH, SPARK_HEIGHT, SPARK_MARGIN = 100.0, 24.0, 2.0

Rows = Sequence[Mapping[str, object]]
Specification = dict[str, Any]


class Tip(NamedTuple):
    """Place on the x-axis (an instant or a number), its title, and a line for each series: its name and its value."""

    at: str | float
    title: str
    lines: list[tuple[str, str]]


def chart(name: str, tips: Sequence[Tip] = (), /, **datasets: Rows) -> Specification:
    """Return the specification `charts/<name>.json` with data sets, to which it refers by name; some lack."""
    made = _specification(name)
    if "layer" in made:  # Vega warns of a layer without data
        made = made | {"layer": [layer for layer in made["layer"] if datasets.get(layer["data"]["name"])]}
    zooms = any(parameter["name"] == "zoom" for parameter in made.get("params", []))
    return made | {"datasets": datasets, "usermeta": {"tips": [list(tip) for tip in tips], "zooms": zooms}}


def measured(
    specification: Specification, channel: str, unit: str | None, values: Sequence[float] = ()
) -> Specification:
    """Return the specification with its x or y axis made for values of a unit; without values it is linear."""
    if "layer" not in specification:
        return _with_axis(specification, channel, axis_of(values, unit))
    layers = list(specification["layer"])
    place = next((n for n, layer in enumerate(layers) if "field" in layer["encoding"].get(channel, {})), None)
    if place is not None:
        layers[place] = _with_axis(layers[place], channel, axis_of(values, unit))
    return specification | {"layer": layers}


def sparkline(values: Sequence[float]) -> str:
    """Return the points of a polyline in a box of SPARK_WIDTH by SPARK_HEIGHT; its bottom is 0, its top the largest."""
    top, steps = max([*values, 1]), max(len(values) - 1, 1)
    height = SPARK_HEIGHT - 2 * SPARK_MARGIN
    return " ".join(
        f"{SPARK_WIDTH * place / steps:.1f},{SPARK_HEIGHT - SPARK_MARGIN - height * value / top:.1f}"
        for place, value in enumerate(values)
    )


def _with_axis(view: Specification, channel: str, parts: Mapping[str, Mapping[str, Any]]) -> Specification:
    encoded = view["encoding"][channel]
    made = {name: encoded.get(name, {}) | part for name, part in parts.items()}
    return view | {"encoding": view["encoding"] | {channel: encoded | made}}


@cache
def _specification(name: str) -> Specification:
    found: Specification = json.loads((SPECIFICATIONS / f"{name}.json").read_text("utf-8"))
    return found
