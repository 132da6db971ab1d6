"""Nights: what the hot list expects of each probe on a day of the past or the next one."""

from __future__ import annotations

from typing import NamedTuple

from usage_service.hotlist.backtest.replaying import nights_of
from usage_service.hotlist.counts import DayCounts
from usage_service.probe_keys import Floats, Ints


class Expected(NamedTuple):
    """What is expected of a day: entries for each probe, and the columns that are listed, best first.

    `requests` are the requests expected for each probe on that day.
    """

    score: Floats
    requests: Floats
    order: Ints


def expect(counts: DayCounts, row: int) -> Expected:
    """Return what the hot list expects of the day of a row, which may be the one after the last."""
    [night] = nights_of(counts, [row])
    requests = night.by_column(night.place_shares) * night.requests
    return Expected(night.by_column(night.place_scores), requests, night.order)
