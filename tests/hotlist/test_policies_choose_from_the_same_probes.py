"""No policy lists what may not be listed, or keeps room for it; requests for it count against all of them alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from tests.support.hot_reference import Request
from tests.support.hot_traffic import DAYS, FIRST, NAMES, counts
from usage_service.hotlist.backtest.policies import CLAIRVOYANT
from usage_service.hotlist.backtest.replaying import backtest, lists_at_nights, nights_of
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.evidence import ADDITIONS, Rule

HIDDEN, RETIRED, RETIRED_ON = 0, 1, FIRST + timedelta(days=12)
NIGHTS = range(1, DAYS)
PEOPLE = ("ann", "bob", "cid")


def history(known: dict[tuple[str, str], date]) -> DayCounts:
    """Return days on which everybody requests each probe, those that are not listed most often."""
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    often = [3 if number in (HIDDEN, RETIRED) else 1 for number in range(len(NAMES))]
    requests = [
        Request(day, name, person, found=False)
        for day in days
        for name, times in zip(NAMES, often, strict=True)
        for person in PEOPLE
        for _ in range(times)
    ]
    made = counts(requests, known)
    places = np.array([NAMES.index((key.product, key.probe)) for key in made.probes])
    retired = np.where(places == RETIRED, RETIRED_ON.toordinal(), made.columns.retired)
    return replace(made, columns=replace(made.columns, listable=places != HIDDEN, retired=retired))


@pytest.fixture(scope="module")
def made() -> DayCounts:
    return history({})


def test_no_policy_lists_what_may_not_be_listed(made: DayCounts) -> None:
    rooms = (2, 4, len(NAMES))
    for row, (night, lists) in zip(NIGHTS, lists_at_nights(made, NIGHTS, rooms), strict=True):
        may_be = {number for number in range(len(NAMES)) if number != HIDDEN}
        if made.day(row) > RETIRED_ON:
            may_be -= {RETIRED}
        assert set(np.flatnonzero(night.listable)) == may_be
        for policy, chosen in lists.items():
            for room, one in zip(rooms, chosen, strict=True):
                assert len(one) == min(room, len(may_be)), (policy, made.day(row))
                assert set(one.tolist()) <= may_be, policy


def test_requests_for_it_count_for_all_policies_alike(made: DayCounts) -> None:
    found = backtest(made, DAYS, [len(NAMES)], lambda _done: None)
    assert found.requests == int(made.views[1:].sum())
    shares = {one.policy: one.caught_by_all for one in found.policies}
    assert set(shares.values()) == {shares[CLAIRVOYANT]}
    assert shares[CLAIRVOYANT] < 9 / 12


def test_a_new_probe_that_is_hidden_has_no_score() -> None:
    """It is viewed all the same, and what is new gets what such probes get on average."""
    known = dict.fromkeys(NAMES, FIRST - timedelta(days=3))
    made = history(known)
    for night in nights_of(made, NIGHTS):
        for name in ADDITIONS:
            assert not night.score(Rule(0, (name,)))[~night.listable].any(), name
