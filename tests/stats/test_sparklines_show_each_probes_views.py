"""Views of some probes over time are those in the log: of people, of a channel or all, window by window."""

from __future__ import annotations

from datetime import date

import pytest

from tests.support import reference
from tests.support.servers import Connection, JsonObject
from tests.support.traffic import append_traffic, fold_all, logged
from usage_service.probe_keys import ProbeKey
from usage_service.stats.popularity import views_by_probe
from usage_service.stats.view_counts import ViewCounts
from usage_service.windows import Days

WINDOWS = [
    Days(date(2026, 11, 19), date(2026, 11, 19)),  # before the first view
    *(Days(date(2026, 11, day), date(2026, 11, day)) for day in (20, 21, 22, 23)),
    Days(date(2026, 11, 21), date(2026, 11, 22)),
    Days(date(2026, 11, 16), date(2026, 11, 22)),  # a week of its own
]
PROBES = [
    ProbeKey("fog", "slow_ms"), ProbeKey("fenix", "gc_ms"), ProbeKey("fog", "nobody_ms"), ProbeKey("fog", "gc_ms"),
]  # fmt: skip


def expected(log: list[JsonObject], channel: str | None) -> list[list[int]]:
    """Count the views of people in each window, probe by probe."""
    views = [item for item in log if item["type"] == "probe_viewed" and item["data"].get("bot") is not True]
    return [
        [
            sum(
                (item["product"], item["probe"]) == key
                and channel in (None, item["channel"] or "")
                and first <= reference.moment(item).date() <= last
                for item in views
            )
            for first, last in WINDOWS
        ]
        for key in PROBES
    ]


@pytest.mark.parametrize("channel", [None, "nightly", "", "beta"])
async def test_each_has_its_own(database: Connection, channel: str | None) -> None:
    await append_traffic(database, 1_500)
    await fold_all(database)
    wanted = expected(await logged(database), channel)
    assert await views_by_probe(database, ViewCounts(), WINDOWS, PROBES, channel) == wanted
    assert wanted[2] == [0] * len(WINDOWS)
    assert channel == "beta" or sum(map(sum, wanted)) > 0
