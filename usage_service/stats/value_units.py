"""Units of a probe's values, by its type and what the catalogue says of it."""

from __future__ import annotations

TIME = ("nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day")
MEMORY = ("byte", "kilobyte", "megabyte", "gigabyte")
PERCENT = "percent"
# As people write them in the `unit` of a definition, which is free text.
SPELLINGS = {
    "ns": "nanosecond", "us": "microsecond", "µs": "microsecond", "ms": "millisecond", "s": "second", "sec": "second",
    "min": "minute", "h": "hour", "b": "byte", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte",
    "%": PERCENT, "percentage": PERCENT, "percents": PERCENT,
}  # fmt: skip


def unit_of_values(
    metric_type: str | None, time_unit: str | None = None, memory_unit: str | None = None, unit: str | None = None
) -> str | None:
    """Return the unit of a probe's values: of TIME or MEMORY, PERCENT, a text of the definition, or None of a count.

    Glean sends timing distributions in nanoseconds and memory distributions in bytes whatever unit their definitions
    have, which is the one that the application measures in. A timespan is sent in its own unit.
    """
    kind = (metric_type or "").removeprefix("labeled_")
    if kind == "timing_distribution":
        return "nanosecond"
    if kind == "memory_distribution":
        return "byte"
    if kind == "timespan":
        return time_unit or "millisecond"
    if kind in ("quantity", "custom_distribution"):
        return time_unit or memory_unit or (_spelled_out(unit.strip()) if unit else None)
    return None


def _spelled_out(unit: str) -> str:
    small = unit.lower()
    singular = small.removesuffix("s") if small.removesuffix("s") in (*TIME, *MEMORY) else small
    return singular if singular in (*TIME, *MEMORY, PERCENT) else SPELLINGS.get(small, unit)
