"""Pace of folding: many small batches cost more than one, so batches grow with the load, within a second."""

from __future__ import annotations

from typing import NamedTuple

REST_SECONDS = 0.03
REST_SHARE = 0.7  # of what the fold took; with more, what small batches can carry stays in large ones after a hitch
LAG_SECONDS = 0.7  # within a second there has to be room for a fold that takes longer than the one before it


class Pace(NamedTuple):
    """The rest after a fold: little after at most `few` events, else `least` or longer, the longer the fold took."""

    few: int
    least: float

    def rest_after(self, seconds: float, events: int) -> float:
        """Return the seconds to rest after a fold of so many events that took so long."""
        if events <= self.few:
            return REST_SECONDS
        # An event may wait for the fold that is under way, the rest and its own fold.
        return max(REST_SECONDS, min(max(self.least, REST_SHARE * seconds), LAG_SECONDS - 2 * seconds))


EAGER = Pace(300, REST_SECONDS)
# Of those that nobody waits for, and that are five times dearer in small batches.
PATIENT = Pace(10, 0.5)
PATIENT_PROJECTIONS = frozenset({"journeys", "timeseries"})


def pace_of(projection: str) -> Pace:
    """Return the pace of a projection."""
    return PATIENT if projection in PATIENT_PROJECTIONS else EAGER
