"""Values are told with their units, short where one looks and whole where one points; axes and tables agree."""

from __future__ import annotations

import html
import re

import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_service.stats.value_units import MEMORY, PERCENT, TIME
from usage_service.web.pages.presentation.units import SHARE, caption, exact, label, measured, measured_cell
from usage_service.web.pages.presentation.words import NOTHING

# As exact as probes are: a double tells whole seconds of up to 10^11 days.
VALUES = st.lists(
    st.floats(1e-6, 1e11).flatmap(lambda value: st.sampled_from([value, -value])), min_size=20, max_size=20
)


UNITS = (*TIME, *MEMORY, PERCENT, SHARE)


def on_axis(values: list[float], *units: str | None) -> list[str]:
    """Return the labels that Vega makes of values, of each in all units."""
    names = [f"in_{unit}" for unit in units]
    labels = [{"calculate": label(unit), "as": name} for unit, name in zip(units, names, strict=True)]
    drawn = vl_convert.vegalite_to_svg(
        {
            "data": {"values": [{"value": value} for value in values]},
            "transform": [*labels, {"fold": names, "as": ["unit", "label"]}],
            "mark": {"type": "text", "limit": 0},
            "encoding": {"text": {"field": "label", "type": "nominal"}},
        }
    )
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]


@given(values=VALUES)
@settings(max_examples=2, deadline=None)
def test_an_axis_tells_what_a_table_tells(values: list[float]) -> None:
    near = [0.0, 1.0, 999.4, 999.6, 59.94, 59.96, 60.5, 3_599.5, 86_399.6, 2.125]
    told = [*near, *values]
    assert on_axis(told, *UNITS) == [measured(value, unit) for value in told for unit in UNITS]


@pytest.mark.parametrize(
    ("value", "unit", "short", "full"),
    [
        (318_767_104, "nanosecond", "319 ms", "318,767,104 ns"),
        (1_203_456_789, "byte", "1.2 GB", "1,203,456,789 B"),
        (900, "second", "15 min", "900 s"),
        (999.6, "millisecond", "1 s", "999.6 ms"),
        (3, "kilobyte", "3.07 kB", "3 KiB"),
        (0, "nanosecond", "0 s", "0 ns"),
        (12.5, PERCENT, "12.5%", "12.5%"),
        (0.12345, SHARE, "12.3%", "12.345%"),
        (1_234_567, None, "1,234,567", "1,234,567"),
        (1_920, "pixels", "1,920", "1,920 pixels"),
        (None, "nanosecond", NOTHING, NOTHING),
    ],
)
def test_a_value_is_short_and_whole_on_hover(value: float | None, unit: str | None, short: str, full: str) -> None:
    assert (measured(value, unit), exact(value, unit)) == (short, full)
    assert measured_cell(value, unit) == (short if short == full else f'<span title="{full}">{short}</span>')


def test_an_axis_shortens_counts() -> None:
    assert on_axis([0, 12_000, 1_500_000, 7, -2_000], None) == ["0", "12 k", "1.5 M", "7", "-2 k"]


def test_a_unit_in_words_is_said_once_and_is_no_html() -> None:
    assert [caption(unit) for unit in ("pixels", "byte", PERCENT, None)] == ["pixels", "", "", ""]
    assert "<b>" not in measured_cell(1, "<b>")
