"""Few events are visible at once, and where many come, batches grow so that each costs less, within a second."""

from __future__ import annotations

import pytest

from usage_service.projections.pace import EAGER, PATIENT, REST_SECONDS, Pace


@pytest.mark.parametrize("pace", [EAGER, PATIENT])
@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.3, 30.0])
def test_few_events_are_folded_again_soon_however_busy_the_machine_is(pace: Pace, seconds: float) -> None:
    assert pace.rest_after(seconds, pace.few) == REST_SECONDS


def test_the_longer_many_events_take_the_more_are_folded_together() -> None:
    rests = [EAGER.rest_after(seconds, EAGER.few + 1) for seconds in (0.0, 0.02, 0.06, 0.12, 0.25)]
    assert rests == sorted(rests)
    assert rests[0] == rests[1] == REST_SECONDS < rests[2] < rests[3] < rests[4]


def test_after_a_hitch_a_load_that_small_batches_carry_is_in_small_batches_again() -> None:
    """20,000 events a second of 25 us each, and one fold that took long."""
    fold = 0.3
    for _ in range(50):
        rest = EAGER.rest_after(fold, 1_000)
        fold = 0.004 + 20_000 * (fold + rest) * 25e-6
    assert fold + rest + fold < 0.11


def test_those_that_nobody_waits_for_rest_longer() -> None:
    assert {PATIENT.rest_after(seconds, PATIENT.few + 1) for seconds in (0.0, 0.05, 0.09)} == {PATIENT.least}


@pytest.mark.parametrize("pace", [EAGER, PATIENT])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_what_is_full_of_load_stays_within_a_second(pace: Pace, share: float) -> None:
    """Let folds take such a share of the time: an event waits for the fold under way, a rest and its own fold.

    A fifth of the second is left for a fold that takes longer than the one before it.
    """
    fold = rest = 0.0
    for _ in range(100):
        fold = share * (fold + rest) + 0.01
        rest = pace.rest_after(fold, 1_000)
        assert fold + rest + fold < 0.8
