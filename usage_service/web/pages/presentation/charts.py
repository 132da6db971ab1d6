"""Charts: Vega-Lite specifications from files, filled with rows; and sparklines, which are plain SVG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SPECIFICATIONS = Path(__file__).parents[1] / "charts"
SPARK_WIDTH, SPARK_HEIGHT, SPARK_MARGIN = 100.0, 24.0, 2.0

Rows = Sequence[Mapping[str, object]]


def chart(name: str, **datasets: Rows) -> dict[str, Any]:
    """Return the specification `charts/<name>.json` with data sets, to which it refers by their names."""
    made = _specification(name)
    if "layer" in made:  # Vega warns of a layer without data
        made = made | {"layer": [layer for layer in made["layer"] if datasets[layer["data"]["name"]]]}
    return made | {"datasets": datasets}


def scaled(specification: dict[str, Any], channel: str, scale: Mapping[str, str]) -> dict[str, Any]:
    """Return the specification with another scale on its x or y axis."""
    if "layer" in specification:
        return specification | {"layer": [_scaled(layer, channel, scale) for layer in specification["layer"]]}
    return _scaled(specification, channel, scale)


def sparkline(values: Sequence[float]) -> str:
    """Return the points of a polyline in a box of SPARK_WIDTH by SPARK_HEIGHT; its bottom is 0, its top the largest."""
    top, steps = max([*values, 1]), max(len(values) - 1, 1)
    height = SPARK_HEIGHT - 2 * SPARK_MARGIN
    return " ".join(
        f"{SPARK_WIDTH * place / steps:.1f},{SPARK_HEIGHT - SPARK_MARGIN - height * value / top:.1f}"
        for place, value in enumerate(values)
    )


def _scaled(view: dict[str, Any], channel: str, scale: Mapping[str, str]) -> dict[str, Any]:
    encoding = view["encoding"]
    return view | {"encoding": encoding | {channel: encoding[channel] | {"scale": scale}}}


@cache
def _specification(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SPECIFICATIONS / f"{name}.json").read_text("utf-8"))
    return found
