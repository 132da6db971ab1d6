"""Nights: what the hot list expects of each probe, and what another policy would have listed."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import numpy as np

from usage_service.hotlist.backtest.policies import POLICIES
from usage_service.hotlist.backtest.replaying import list_at
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.scoring import HISTORY_DAYS, expected_coverage, ranking, score_parts
from usage_service.probe_keys import Floats, Ints


class Night(NamedTuple):
    """What is expected of the day after some counts: entries for each probe, and the columns with a score, best first.

    `requests` are the requests expected for each probe on that day.
    """

    score: Floats
    requests: Floats
    order: Ints


def expect(counts: DayCounts, target: date) -> Night:
    """Return what the hot list expects of the day `target`, made of all rows of the counts."""
    past = counts.between(counts.days - HISTORY_DAYS, counts.days)
    score = score_parts(past, target).score
    order = ranking(score, past.ranks)[: np.count_nonzero(score > 0)]
    shares = np.diff(expected_coverage(past, score, order), prepend=0.0)
    requests = np.zeros(len(score))
    requests[order] = shares * past.views[-28:].sum(axis=1).mean() if past.days else 0.0
    return Night(score, requests, order)


def list_of(policy: str, counts: DayCounts, night: int) -> Ints:
    """Return the columns that a policy of POLICIES lists at a night, best first, made of the rows before it."""
    return list_at(night, counts, POLICIES[policy])
