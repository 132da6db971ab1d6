"""Values with their units, for people: 319 ms, 1.2 GB, 12.5%, 1,234.

There is one rule, and it is applied in two places: `measured` formats a value in Python, for tables, tooltips and
sentences; `label` is the same rule as a Vega expression, for axes. `exact` is the full value, to be shown on hover.
`measured_cell`, the filter `measured` of the templates, is both at once, as HTML.

A value has three significant digits in the largest unit in which it is 1 or more; from a minute on, a time has its two
largest units. A count has no unit: tables show it whole, axes shorten it (12 k). A unit in free words, such as
`pixels`, is a count on axes and in tables; say the unit once beside them, with `caption`. The units are those of
`usage_service.stats.value_units`; SHARE is a number from 0 to 1 that is shown as percent.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context

from markupsafe import Markup

from usage_service.stats.value_units import PERCENT
from usage_service.web.pages.presentation.words import NOTHING, number

SHARE = "share"
# Symbol and size of each step; the size is a float whose reciprocal need not be exact.
TIME_STEPS = (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))
LONG_TIMES = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
SIZE_STEPS = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15))
COUNT_STEPS = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))
STEPS = {"second": TIME_STEPS, "byte": SIZE_STEPS}
ZERO = {"second": "s", "byte": "B"}
# What a unit is in seconds, bytes or percent.
BASES = {
    "nanosecond": ("second", 1e-9), "microsecond": ("second", 1e-6), "millisecond": ("second", 1e-3),
    "second": ("second", 1.0), "minute": ("second", 60.0), "hour": ("second", 3_600.0), "day": ("second", 86_400.0),
    "byte": ("byte", 1.0), "kilobyte": ("byte", 1_024.0), "megabyte": ("byte", 1_024.0**2),
    "gigabyte": ("byte", 1_024.0**3), PERCENT: (PERCENT, 1.0), SHARE: (PERCENT, 100.0),
}  # fmt: skip
SYMBOLS = {"nanosecond": "ns", "microsecond": "µs", "millisecond": "ms", "second": "s", "minute": "min", "hour": "h",
           "day": "d", "byte": "B", "kilobyte": "KiB", "megabyte": "MiB", "gigabyte": "GiB", PERCENT: "%"}  # fmt: skip
ROUNDS_UP = 0.9995  # of a unit: three digits of it are 1
THREE_DIGITS = Context(prec=3, rounding=ROUND_HALF_UP)
A_MINUTE = 59.95  # seconds: three digits of it are 60


def measured(value: float | None, unit: str | None) -> str:
    """Return a value with its unit, short; a dash for None."""
    if value is None:
        return NOTHING
    base, factor = BASES.get(unit or "", ("", 1.0))
    if not base:
        return number(value)
    size, sign = abs(value * factor), "-" if value < 0 else ""
    if base == PERCENT:
        return f"{sign}{_three_digits(size)}%"
    if not size:
        return f"0 {ZERO[base]}"
    return sign + (_long_time(size) if base == "second" and size >= A_MINUTE else _stepped(size, STEPS[base]))


def exact(value: float | None, unit: str | None) -> str:
    """Return a value with all its digits, in the unit that it is stored in."""
    if value is None:
        return NOTHING
    if unit == SHARE:
        value, unit = value * 100, PERCENT
    whole = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6f}".rstrip("0").rstrip(".")
    symbol = SYMBOLS.get(unit or "", unit or "")
    return f"{whole} {symbol}".rstrip() if symbol != "%" else f"{whole}%"


def measured_cell(value: float | None, unit: str | None) -> Markup | str:
    """Return a value with its unit as HTML, short, with the full value on hover where that says more."""
    short, full = measured(value, unit), exact(value, unit)
    return short if short == full else Markup('<span title="{}">{}</span>').format(full, short)


def caption(unit: str | None) -> str:
    """Return what to say beside values of a unit in free words; nothing where each value has its symbol."""
    return "" if unit is None or unit in BASES else unit


def label(unit: str | None, value: str = "datum.value") -> str:
    """Return the Vega expression of a value with its unit, for the labels of an axis."""
    base, factor = BASES.get(unit or "", ("", 1.0))
    scaled = f"abs({value}) * {factor!r}"
    if base == PERCENT:
        sized = f"format({scaled}, ',.3~r') + '%'"
    else:
        sized = _stepped_label(scaled, STEPS.get(base, COUNT_STEPS))
        if base == "second":
            sized = f"{scaled} >= {A_MINUTE} ? {_long_time_label(scaled)} : {sized}"
        sized = f"({value}) == 0 ? '0{f' {ZERO[base]}' if base else ''}' : {sized}"
    return f"(({value}) < 0 ? '-' : '') + ({sized})"


def _three_digits(value: float) -> str:
    """Return a number with three significant digits, without zeros at its end; halves are rounded up, as Vega does."""
    shown = f"{THREE_DIGITS.create_decimal_from_float(float(value)):,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _stepped(size: float, steps: tuple[tuple[str, float], ...]) -> str:
    symbol, unit = next((step for step in reversed(steps) if size >= ROUNDS_UP * step[1]), steps[0])
    return f"{_three_digits(size / unit)} {symbol}".rstrip()


def _long_time(size: float) -> str:
    whole = math.floor(size + 0.5)
    unit, symbol, smaller, small_symbol = next(step for step in LONG_TIMES if whole >= step[0])
    rest = whole % unit // smaller
    return f"{whole // unit:,} {symbol}" + (f" {rest} {small_symbol}" if rest else "")


def _stepped_label(size: str, steps: tuple[tuple[str, float], ...]) -> str:
    """Return the expression of `_stepped`: a condition for each step, the largest first."""
    shown = [f"format({size} / {unit!r}, ',.3~r') + '{f' {symbol}' if symbol else ''}'" for symbol, unit in steps]
    conditions = [
        f"{size} >= {ROUNDS_UP * unit!r} ? {text} : "
        for (_, unit), text in reversed(list(zip(steps[1:], shown[1:], strict=True)))
    ]
    return "(" + "".join(conditions) + shown[0] + ")"


def _long_time_label(size: str) -> str:
    """Return the expression of `_long_time`."""
    whole, text = f"floor({size} + 0.5)", "''"
    for unit, symbol, smaller, small_symbol in reversed(LONG_TIMES):
        rest = f"floor({whole} % {unit} / {smaller})"
        told = f"format(floor({whole} / {unit}), ',') + ' {symbol}' + ({rest} ? ' ' + {rest} + ' {small_symbol}' : '')"
        text = f"({whole} >= {unit} ? {told} : {text})"
    return text
