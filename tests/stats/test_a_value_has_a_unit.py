"""Values of a probe have the unit in which Glean sends them, whatever its definition measures in."""

from __future__ import annotations

import pytest

from usage_service.stats.value_units import unit_of_values


@pytest.mark.parametrize("unit", [None, "millisecond", "nanosecond"])
def test_distributions_are_sent_in_nanoseconds_and_bytes(unit: str | None) -> None:
    for labeled in ("", "labeled_"):
        assert unit_of_values(f"{labeled}timing_distribution", unit) == "nanosecond"
        assert unit_of_values(f"{labeled}memory_distribution", None, "kilobyte") == "byte"


@pytest.mark.parametrize(
    ("said", "unit"),
    [
        (("timespan", "second"), "second"),
        (("timespan",), "millisecond"),
        (("quantity", None, None, "MS"), "millisecond"),
        (("quantity", None, None, "Kilobytes"), "kilobyte"),
        (("custom_distribution", None, None, "%"), "percent"),
        (("labeled_custom_distribution", None, None, " pixels "), "pixels"),
        (("custom_distribution", "minute", None, "pixels"), "minute"),
        (("quantity", None, "megabyte"), "megabyte"),
        (("counter", "second", "byte", "pixels"), None),
        (("boolean",), None),
        ((None,), None),
    ],
)
def test_other_values_are_in_what_the_definition_says(said: tuple[str | None, ...], unit: str | None) -> None:
    assert unit_of_values(*said) == unit
