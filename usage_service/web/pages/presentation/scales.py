"""Axes of charts, from the range of their data: linear or logarithmic, with ticks and labels in a unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from usage_service.web.pages.presentation.units import BASES, label

LOG_FROM = 10  # ratio of the largest value to the smallest above 0 from which the axis is logarithmic
MOST_TICKS = 8
LONG_TIMES = (60.0, 300.0, 900.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0)  # seconds: round where decimals are not
MOST_DECADES = 40


def is_logarithmic(values: Sequence[float]) -> bool:
    """Return whether values are of very different sizes."""
    above = [value for value in values if value > 0]
    return bool(above) and max(above) / min(above) >= LOG_FROM


def axis_of(values: Sequence[float], unit: str | None) -> dict[str, Any]:
    """Return the scale and the axis of an encoding for values of a unit.

    A logarithmic scale goes from the smallest value to the largest. Where there are values that are not above 0, it is
    symmetric, and logarithmic from the smallest value above 0 on.
    """
    axis: dict[str, Any] = {"labelExpr": label(unit)}
    if not is_logarithmic(values):
        ticks = _linear_ticks(values, unit)
        return {"scale": {"type": "linear"}, "axis": axis | ({"values": ticks} if ticks else {})}
    above = [value for value in values if value > 0]
    low, high = min(above), max(above)
    ticks = _log_ticks(low, high, unit)
    if min(values) > 0:
        scale: dict[str, Any] = {"type": "log", "domain": [low, high], "nice": False}
    else:
        scale = {"type": "symlog", "constant": low, "domain": [min(values), high], "nice": False}
        ticks = [0, *ticks]
    return {"scale": scale, "axis": axis | {"values": ticks}}


def _log_ticks(low: float, high: float, unit: str | None) -> list[float]:
    """Return round values between two others, at most MOST_TICKS: 1, 2 and 5 of each decade, or fewer."""
    base, factor = BASES.get(unit or "", ("", 1.0))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick / factor for tick in _round_values(low * factor, high * factor, steps, base)]
        if len(ticks) <= MOST_TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / MOST_TICKS)]


def _round_values(low: float, high: float, steps: tuple[int, ...], base: str) -> list[float]:
    first = math.floor(math.log10(low))
    decades = range(first, min(math.floor(math.log10(high)), first + MOST_DECADES) + 1)
    found = [step * 10.0**decade for decade in decades for step in steps]
    if base == "second":
        short = [value for value in found if value < LONG_TIMES[0]]
        days = [86_400.0 * step * 10.0**decade for decade in range(MOST_DECADES) for step in steps]
        found = sorted({*short, *LONG_TIMES[:: 4 - len(steps)], *days})
    return [value for value in found if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]


def _linear_ticks(values: Sequence[float], unit: str | None) -> list[float]:
    """Return ticks of times of minutes and more, which are round; none where Vega's decimals are."""
    base, factor = BASES.get(unit or "", ("", 1.0))
    high = max(values, default=0) * factor
    if base != "second" or high < 2 * LONG_TIMES[0]:
        return []
    days = 86_400.0 * 10 ** max(0, math.floor(math.log10(high / 86_400)))
    steps = (30.0, *LONG_TIMES, 21_600.0, days, 2 * days, 5 * days)
    step = next((step for step in sorted(steps) if high / step <= MOST_TICKS), 10 * days)
    return [place * step / factor for place in range(math.floor(high / step) + 1)]
