"""Builds at which a distribution moved beyond chance, and beyond what it moves from any build to the next.

Each build is compared with the one before (see `differences`). What most builds differ by is not a move: weekdays,
late pings and clients that come and go make differences that sampling alone would not. The upper quartile of the
statistics tells how large these usually are, as a few moves hardly shift it (as in genomic control: Devlin & Roeder,
Biometrics 55, 1999). A statistic above s takes either sampling above (1 - a) s or a usual difference above a s,
whatever a is: the chances of the two are added for the best a. Usual differences have Student's law, as their size is
an estimate.
Then the tests are corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, median
from typing import NamedTuple

import numpy as np

from usage_service.stats.differences import Estimate, Gap, critical, exceeds, gap_between
from usage_service.stats.discoveries import RATE, discoveries_among
from usage_service.stats.distributions import Distribution
from usage_service.stats.students_t import student_within

LEAST_CLIENTS = 30  # of a build; fewer tell nothing, and would hide what moved from the build before to the one after
LEAST_OF_USUAL = 0.1  # of the median build's clients
LEAST_STEPS = 8  # that tell how much builds differ by
UPPER_QUARTILE = 0.75
QUARTILE_ERROR = 0.43  # standard error of that of so many statistics, times the root of their number
STEPS_A_FREEDOM = 4  # steps share builds, and a quartile knows less than a variance
NORMAL_QUARTILE = NormalDist().inv_cdf((1 + UPPER_QUARTILE) / 2)
PARTS = tuple(part / 20 for part in range(20))


class Move(NamedTuple):
    """Move from the build at `before` to that at `place`, with the adjusted p-value and interval."""

    before: int
    place: int
    gap: Gap
    difference: Estimate
    p_value: float


class Moves(NamedTuple):
    """Moves in the order of builds, how many steps were looked at, and how many builds were too small.

    `usual` is the size of usual differences in standard deviations of sampling: 0 where sampling explains them.
    """

    moves: list[Move]
    steps: int
    usual: float
    left_out: int


def moves_among(builds: Sequence[Distribution | None]) -> Moves:
    """Return the moves among the builds of an application, which are given from the oldest to the newest."""
    places = _large_enough(builds)
    steps = [(before, place, _gap(builds, before, place)) for before, place in pairwise(places)]
    compared = [(before, place, gap) for before, place, gap in steps if gap]
    usual = _usual([gap for _, _, gap in compared])
    adjusted, confidence = discoveries_among([_p_value(gap, usual, len(compared)) for _, _, gap in compared])
    moves = [
        Move(before, place, gap, gap.interval(confidence), p_value)
        for (before, place, gap), p_value in zip(compared, adjusted.tolist(), strict=True)
        if p_value <= RATE
    ]
    return Moves(moves, len(compared), usual, len(builds) - len(places))


def _large_enough(builds: Sequence[Distribution | None]) -> list[int]:
    clients = [build.clients if build else 0.0 for build in builds]
    least = max(LEAST_CLIENTS, LEAST_OF_USUAL * median(clients)) if clients else 0
    return [place for place, number in enumerate(clients) if number >= least]


def _gap(builds: Sequence[Distribution | None], before: int, place: int) -> Gap | None:
    first, second = builds[before], builds[place]
    return gap_between(first, second) if first and second else None


def _usual(gaps: Sequence[Gap]) -> float:
    """Return the size of usual differences; 0 of too few to tell, and where sampling makes such a median."""
    if len(gaps) < LEAST_STEPS:
        return 0.0
    by_sampling = median(critical(1 - UPPER_QUARTILE, gap.tests) for gap in gaps)
    quartile = float(np.quantile([gap.statistic for gap in gaps], UPPER_QUARTILE))
    if quartile <= by_sampling + QUARTILE_ERROR / math.sqrt(len(gaps)):
        return 0.0
    return quartile / NORMAL_QUARTILE


def _p_value(gap: Gap, usual: float, steps: int) -> float:
    """Return the chance of a gap as large by sampling and usual differences."""
    if not usual:
        return gap.p_value
    freedom = max(1, steps // STEPS_A_FREEDOM)
    chances = (
        exceeds((1 - part) * gap.statistic, gap.tests) + 1 - student_within(part * gap.statistic / usual, freedom)
        for part in PARTS
    )
    return min(1.0, *chances)
