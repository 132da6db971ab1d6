"""Few events are visible at once, and where many come, batches grow so that each costs less, within a second."""

from __future__ import annotations

import pytest

from usage_service.projections.runner import FEW_EVENTS, LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, pause_after


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.3, 30.0])
def test_few_events_are_folded_again_soon_however_busy_the_machine_is(seconds: float) -> None:
    assert pause_after(seconds, FEW_EVENTS) == PAUSE_SECONDS


def test_the_longer_many_events_take_the_more_are_folded_together() -> None:
    pauses = [pause_after(seconds, FEW_EVENTS + 1) for seconds in (0.0, 0.02, 0.04, 0.08, 0.1, 0.2, 60.0)]
    assert pauses == sorted(pauses)
    assert pauses[0] == PAUSE_SECONDS
    assert PAUSE_SECONDS < pauses[2] < pauses[3] < LONGEST_PAUSE_SECONDS
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_those_that_nobody_waits_for_rest_longer_whatever_they_take() -> None:
    assert {pause_after(seconds, events, 0.5) for seconds in (0.0, 0.1, 60.0) for events in (1, 20_000)} == {0.5}


def test_what_is_full_of_load_stays_within_a_second() -> None:
    """At a rate whose folds take a quarter of the time, an event waits for a fold, a rest and its own fold."""
    fold = rest = 0.0
    for _ in range(100):
        fold = 0.25 * (fold + rest) + 0.01
        rest = pause_after(fold, 1_000)
    assert fold + rest + fold < 1
