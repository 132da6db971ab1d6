"""Lists are functions of the requests alone, to the last digit, however they arrive and wherever learning goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hot_reference import Name, Request
from tests.support.hot_traffic import DAYS, FIRST, NAMES, REGISTERED, REQUESTS, counts
from tests.support.servers import rounds
from usage_service.hotlist.backtest.replaying import nights_of
from usage_service.hotlist.backtest.sample_traffic import Shape, generate_traffic
from usage_service.hotlist.counts import Columns, DayCounts, DayRow, columns_of
from usage_service.hotlist.history import Learning, _Day
from usage_service.hotlist.learning import Learned, Night, history_begin
from usage_service.probe_keys import ProbeKey

TARGET = (FIRST + timedelta(days=DAYS)).toordinal()
RETIRED = st.dictionaries(
    st.sampled_from(NAMES), st.integers(-3, DAYS).map(lambda age: FIRST + timedelta(days=age)), max_size=4
)
SHAPE = Shape(days=50, probes=300, people=80, views=4, teams=8)


def told(night: Night) -> tuple[list[ProbeKey], list[float], list[float], object]:
    """Return all that a list says, exactly."""
    listed = [night.columns.probes[column] for column in night.order.tolist()]
    return listed, night.place_scores.tolist(), night.coverage.tolist(), night.learned.evidence.rules()


def last_night(found: DayCounts) -> Night:
    """Return the night after all days."""
    [night] = nights_of(found, [found.days])
    return night


def with_retired(columns: Columns, retired: Mapping[Name, date]) -> Columns:
    """Return columns of which these probes are retired."""
    days = {ProbeKey(*name): day for name, day in retired.items()}
    return replace(columns, retired=columns_of(columns.probes, {}, retired=days).retired)


class Arriving:
    """Days as a service keeps them: a column more for each new probe, another day for each change."""

    def __init__(self, known: dict[Name, date]) -> None:
        self.known = {ProbeKey(*name): day for name, day in known.items()}
        self.places: dict[ProbeKey, int] = {}
        self.days = [_Day(0, np.zeros((3, 0), dtype=np.int32)) for _ in range(DAYS)]
        self.learning, self.requests = Learning(), list[Request]()

    def take(self, batch: Iterable[Request], retired: Mapping[Name, date] = MappingProxyType({})) -> Night:
        """Take more requests, and which probes are retired now, and return the night after all days."""
        batch = list(batch)
        self.requests += batch
        for request in batch:
            self.places.setdefault(ProbeKey(*request.name), len(self.places))
        for key in self.known:
            self.places.setdefault(key, len(self.places))
        whole = counts(self.requests, {(key.product, key.probe): day for key, day in self.known.items()})
        order = [whole.probes.index(key) for key in self.places]
        for row in {(request.day - FIRST).days for request in batch}:
            own = np.stack([whole.views[row], whole.people[row], whole.missing[row]])
            self.days[row] = _Day(len(self.requests), own[:, order])
        columns = with_retired(columns_of(list(self.places), self.known), retired)
        return Night(self.learning.learned(FIRST, columns, list(self.days), True), TARGET)


@given(st.lists(st.tuples(REQUESTS, RETIRED), min_size=1, max_size=3), REGISTERED)
@settings(max_examples=rounds(5), deadline=None)
def test_any_split_into_batches_gives_the_same_list(
    batches: list[tuple[list[Request], dict[Name, date]]], known: dict[Name, date]
) -> None:
    arriving = Arriving(known)
    for batch, retired in batches:
        night = arriving.take(batch, retired)
        found = counts(arriving.requests, known)
        assert told(night) == told(last_night(replace(found, columns=with_retired(found.columns, retired))))


def test_a_retirement_is_learned_from_its_day_on(monkeypatch: pytest.MonkeyPatch) -> None:
    arriving, learned = Arriving({}), list[int]()
    requests = [Request(FIRST + timedelta(days=day), name, "ann", True) for day in range(DAYS) for name in NAMES]
    before, name = arriving.take(requests), NAMES[0]
    after = Learned.after

    def counted(one: Learned, row: DayRow, learn: bool = True) -> Learned:
        learned.append(one.day)
        return after(one, row, learn)

    monkeypatch.setattr(Learned, "after", counted)
    for age in (0, 1, 2):
        night = arriving.take([], {name: FIRST + timedelta(days=DAYS - 1 - age)})
        gone = {night.columns.probes[column] for column in before.order} - {
            night.columns.probes[column] for column in night.order
        }
        assert gone == {ProbeKey(*name)}
        assert len(learned) <= age
        learned.clear()


@given(REQUESTS, REQUESTS, st.integers(1, DAYS - 1))
@settings(max_examples=rounds(5), deadline=None)
def test_a_day_that_is_not_over_is_no_evidence(requests: list[Request], late: list[Request], row: int) -> None:
    arriving = Arriving({})
    arriving.take(requests + late)
    columns, days = columns_of(list(arriving.places), {}), arriving.days[: row + 1]
    before = arriving.learning.learned(FIRST, columns, days[:-1], True)
    today = arriving.learning.learned(FIRST, columns, days, False)
    assert today.evidence is before.evidence or today.evidence.rules() == before.evidence.rules()
    assert today.day == before.day + 1


def test_a_history_that_begins_anew_is_that_of_a_single_night() -> None:
    made = generate_traffic(Shape(days=402, probes=30, people=6, views=2), date(2025, 1, 6)).counts()
    begins = [history_begin(made.day(row - 1)) for row in range(2, made.days)]
    turn = 2 + max(number for number in range(1, len(begins)) if begins[number] != begins[number - 1])
    together = [told(night) for night in nights_of(made, range(turn - 1, turn + 1))]
    assert together[1] == told(next(nights_of(made, [turn])))


def moved(before: Night, after: Night, length: int) -> int:
    """Return how many of the first probes of a list are not among the first of another."""
    first = {before.columns.probes[column] for column in before.order[:length].tolist()}
    return len(first - {after.columns.probes[column] for column in after.order[:length].tolist()})


def test_one_visitor_with_10000_requests_on_a_day_moves_few_places() -> None:
    made = generate_traffic(SHAPE, FIRST).counts()
    before = last_night(made)
    for spread in (1, 10, 100):
        views, people = made.views.copy(), made.people.copy()
        views[-1, :: 300 // spread] += 10_000 // spread
        people[-1, :: 300 // spread] += 1
        after = last_night(replace(made, views=views, people=people))
        assert moved(before, after, 25) <= 3
        assert moved(before, after, 100) <= 6


def test_one_visitor_with_10000_requests_on_each_of_30_days_leaves_the_others_most() -> None:
    made = generate_traffic(Shape(days=60, probes=2_000), FIRST).counts()
    others, before = made.views[-30:].sum(axis=0), last_night(made)
    views, people = made.views.copy(), made.people.copy()
    views[-30:, ::20] += 100
    people[-30:, ::20] += 1
    after = last_night(replace(made, views=views, people=people))
    assert others[after.order[:50]].sum() >= 0.6 * others[before.order[:50]].sum()


def test_requests_at_wrong_times_move_few_places() -> None:
    made = generate_traffic(SHAPE, FIRST).counts()
    before, early = last_night(made), np.zeros((90, len(made.probes)), dtype=np.int32)
    early[0, 7] = 1
    stretched = [np.concatenate([early, part]) for part in (made.views, made.people, made.missing)]
    first = made.first - timedelta(days=90)
    assert moved(before, last_night(DayCounts(first, made.columns, *stretched)), 100) <= 3
    dice = np.random.default_rng(1)
    rows, columns = dice.integers(0, made.days, 300), dice.integers(0, len(made.probes), 300)
    views, people = made.views.copy(), made.people.copy()
    np.add.at(views, (rows, columns), 1)
    np.add.at(people, (rows, columns), 1)
    assert moved(before, last_night(replace(made, views=views, people=people)), 100) <= 6
