"""Charts say what they draw: axes from the data, tips of every series, what is not over yet, releases and versions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usage_service.web.pages.presentation.drawing import (
    bands_chart,
    counted_chart,
    has_log_axis,
    histogram_chart,
    shares_chart,
)
from usage_service.web.pages.presentation.scales import MOST_TICKS, axis_of
from usage_service.web.pages.presentation.units import BASES

DAYS = [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2, 3)]
STEP = timedelta(days=1)
NOW = DAYS[2] + timedelta(hours=5)
ROWS: list[dict[str, Any]] = [
    {"start": day.isoformat(), "series": series, "value": 1_000 * number}
    for day in DAYS
    for number, series in enumerate(("data found", "not built"), 1)
]


def tips(chart: dict[str, Any]) -> list[tuple[object, str, dict[str, str]]]:
    return [(at, title, dict(lines)) for at, title, lines in chart["usermeta"]["tips"]]


def test_bars_tell_every_series_and_the_total_and_what_is_not_over() -> None:
    before = [{"start": DAYS[0].isoformat(), "series": "compared: 2026-10-04 00:00", "value": 7}]
    drawn = counted_chart(ROWS, [], STEP, NOW, before)
    first, _, last = tips(drawn)
    assert first == (
        "2026-11-01T12:00:00+00:00",
        "2026-11-01 00:00",
        {"data found": "1,000", "not built": "2,000", "total": "3,000", "compared: 2026-10-04 00:00": "7"},
    )
    assert last[1] == "2026-11-03 00:00, not over yet"
    assert [row["running"] for row in drawn["datasets"]["rows"]] == [False] * 4 + [True] * 2
    [single, *_] = tips(counted_chart(ROWS[::2], [], STEP, NOW))
    assert "total" not in single[2]


def test_the_running_bucket_of_shares_is_dashed_from_the_last_one_on() -> None:
    shares = [row | {"value": 0.5} for row in ROWS]
    running = shares_chart(shares, [], STEP, NOW)["datasets"]
    assert {row["start"] for row in running["running"]} == {day.isoformat() for day in DAYS[1:]}
    assert shares_chart(shares)["datasets"]["running"] == []


def test_percentiles_have_units_versions_and_the_chosen_build() -> None:
    bands = [
        {"start": f"2026-11-0{day}T09:00:00Z", "version": 139 + day // 2} | dict.fromkeys(BANDS, 318_767_104.0)
        for day in (1, 2, 3, 4)
    ]
    drawn = bands_chart(bands, "nanosecond", build="2026110209")
    assert tips(drawn)[0][1:] == ("2026-11-01 09:00, version 139", dict.fromkeys(SAID, "319 ms"))
    assert drawn["datasets"]["versions"] == [
        {"version": "139", "start": "2026-11-01T09:00:00Z"},
        {"version": "140", "start": "2026-11-02T09:00:00Z"},
        {"version": "141", "start": "2026-11-04T09:00:00Z"},
    ]
    assert [row["start"] for row in drawn["datasets"]["chosen"]] == ["2026-11-02T09:00:00Z"]
    assert not has_log_axis(drawn, "y")
    assert bands_chart(bands[:1], "nanosecond")["datasets"]["versions"] == []  # nothing to tell apart


BANDS = ("p5", "p25", "p50", "p75", "p95")
SAID = ("95 %", "75 %", "median", "25 %", "5 %")


def test_whole_numbers_are_bars_on_their_numbers() -> None:
    drawn = histogram_chart([{"from": float(n), "to": n + 1.0, "share": 0.25} for n in range(4)], None)
    assert [(row["left"], row["right"]) for row in drawn["datasets"]["buckets"]] == [
        (-0.5, 0.5), (0.5, 1.5), (1.5, 2.5), (2.5, 3.5),
    ]  # fmt: skip
    assert [title for _, title, _ in tips(drawn)] == ["0", "1", "2", "3"]
    assert not has_log_axis(drawn, "x")


def test_buckets_tell_their_share_and_what_is_below() -> None:
    drawn = histogram_chart(
        [{"from": 1e6, "to": 1e7, "share": 0.5}, {"from": 1e7, "to": 1e8, "share": 0.5}], "nanosecond"
    )
    assert tips(drawn)[1][1:] == ("10 ms to 100 ms", {"share of clients": "50%", "below 100 ms": "100%"})
    assert has_log_axis(drawn, "x")


VALUES = st.lists(st.floats(1e-3, 1e12) | st.just(0.0), min_size=1, max_size=20)


@given(VALUES, st.sampled_from([*BASES, None]))
@example([0.0, 0.0], "second")
@example([1.0, 1e12], "day")
@example([86400001.0, 864000010.0], "millisecond")
def test_a_logarithmic_axis_goes_from_the_smallest_value_to_the_largest(values: list[float], unit: str | None) -> None:
    made = axis_of(values, unit)
    above = [value for value in values if value > 0]
    ticks = made["axis"].get("values", [])
    assert ticks == sorted(ticks)
    assert all(-1e-9 <= tick <= max(values) * (1 + 1e-6) for tick in ticks)
    if not above or max(above) / min(above) < 10:
        assert made["scale"] == {"type": "linear"}
        return
    assert made["scale"]["domain"] == [min(values), max(values)]
    assert made["scale"]["type"] == ("log" if min(values) > 0 else "symlog")
    assert 1 <= len(ticks) <= MOST_TICKS + 1


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([1e6, 1e9], [1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9]),
        ([0, 900e9], [0, 300e9, 600e9, 900e9]),
    ],
)
def test_ticks_are_round_in_the_unit(values: list[float], ticks: list[float]) -> None:
    assert axis_of(values, "nanosecond")["axis"]["values"] == pytest.approx(ticks)
