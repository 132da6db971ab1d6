"""Experts of the hot list: simple rules that score probes by past requests, kept up to date a day at a time.

An expert is a half-life after which a day counts half (exponential smoothing: R. G. Brown, Smoothing, Forecasting and
Prediction, 1963) together with what it counts, or a window of days. Which of them is listened to is learned from what
they would have caught (`evidence`).

Sums over probes are of whole numbers, so that they do not depend on the order of the probes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from usage_service.hotlist.counts import NEVER, Columns, DayRow
from usage_service.probe_keys import Floats, Ints

Measure = Literal["requests", "between", "people"]
MEASURES: tuple[Measure, ...] = ("requests", "between", "people")
BETWEEN = MEASURES.index("between")
HALF_LIVES = (1, 2, 4, 7, 14, 28, 60, 90, 180)
USUAL = HALF_LIVES.index(28)
WINDOWS = (7, 30, 90)
UNIT = 1_024  # requests are rounded to this part of one
LEAST_EXPOSURE_DAYS = 7  # a probe that was registered yesterday is not judged by one day
REQUESTS_A_PERSON = 3  # of one probe on one day; more of them are requested again and again
TINY = float(np.finfo(float).tiny)
_FADING = (0.5 ** (1.0 / np.array(HALF_LIVES)))[:, None]


class Expert(NamedTuple):
    """Rule that scores probes: days of its half-life, or of its window, and what it counts."""

    kind: Literal["half_life", "most_viewed"]
    days: int
    measure: Measure

    @property
    def words(self) -> str:
        """Return the rule in words."""
        of = "requests and people" if self.measure == "between" else self.measure
        days = f"{self.days} {'day' if self.days == 1 else 'days'}"
        return f"half-life {days} of {of}" if self.kind == "half_life" else f"most viewed of {days}"


EXPERTS = (
    *(Expert("half_life", days, measure) for measure in MEASURES for days in HALF_LIVES),
    *(Expert("most_viewed", days, "requests") for days in WINDOWS),
)
DEFAULT = EXPERTS.index(Expert("half_life", 28, "between"))


def measured(row: DayRow) -> Floats:
    """Return what each of MEASURES counts of a day's requests for each probe.

    Unknown visitors count as one person. What people request again and again counts at most half as much as all else of
    the day, so that one who requests more than all others decides little alone.
    """
    people = np.maximum(row.people, row.views > 0)
    usual = np.minimum(row.views, REQUESTS_A_PERSON * people)
    again = row.views - usual
    most, repeated = int(usual.sum()), int(again.sum())
    requests = _in_units(usual + again * min(1.0, most / max(1, 2 * repeated)))
    return np.stack([requests, _in_units(np.sqrt(requests * people)), people])


def _in_units(values: Floats) -> Floats:
    return np.asarray(np.rint(UNIT * values) / UNIT)


def padded(values: Floats, columns: int) -> Floats:
    """Return the values with zeros for the columns that came later."""
    known = values.shape[-1]
    if known >= columns:
        return values
    found = np.zeros((*values.shape[:-1], columns), dtype=values.dtype)  # ten times as fast as np.pad
    found[..., :known] = values
    return found


@dataclass(frozen=True)
class FadedCounts:
    """Sums of the days so far for each expert and probe; those of a half-life fade by a day with each day.

    `exposure` is the traffic since a probe was registered, all probes together, and `traffic` since the first day; so a
    probe is judged by its share of the traffic that could have been for it, and a day without any counts for nothing. A
    probe that is not registered, or was requested before, could always be requested.
    """

    sums: Floats  # measures, half-lives, probes
    exposure: Floats  # half-lives, probes
    traffic: Floats  # half-lives
    active: Floats  # half-lives: days with traffic
    recent: tuple[float, ...]  # traffic of the last days, the latest first
    window: Floats  # windows, probes
    rows: tuple[Floats, ...]  # requests of the days of the longest window, the latest first
    since: Ints  # day of the first request of each probe, NEVER before it

    def with_columns(self, columns: Columns) -> FadedCounts:
        """Return the same for more columns, of which the days so far have nothing."""
        size, before = len(columns), len(self.since)
        always = np.repeat(self.traffic[:, None], size - before, axis=1)
        return replace(
            self,
            sums=padded(self.sums, size),
            exposure=np.concatenate([self.exposure, always], axis=1),
            window=padded(self.window, size),
            since=np.pad(self.since, (0, size - before), constant_values=NEVER),
        )

    def after(self, counted: Floats, registered: Ints, day: int) -> FadedCounts:
        """Return the sums after another day, of which `counted` are the measures of its requests."""
        is_new = (registered == day) & (self.since >= day)
        size, traffic = counted.shape[1], float(counted[BETWEEN].sum())
        rows = (counted[0], *self.rows[: WINDOWS[-1] - 1])
        gone = [padded(self.rows[days - 1], size) if len(self.rows) >= days else 0.0 for days in WINDOWS]
        seen = np.where(counted[0] > 0, day, NEVER)
        return FadedCounts(
            self.sums * _FADING + counted[:, None, :],
            np.where(is_new, 0.0, self.exposure * _FADING) + traffic,
            self.traffic * _FADING[:, 0] + traffic,
            self.active * _FADING[:, 0] + (traffic > 0),
            (traffic, *self.recent[: LEAST_EXPOSURE_DAYS - 1]),
            np.stack([own + counted[0] - old for own, old in zip(self.window, gone, strict=True)]),
            rows,
            np.minimum(self.since, seen),
        )

    @property
    def usual_traffic(self) -> float:
        """Return the traffic of a day, as lately."""
        days = float(self.active[USUAL])
        return float(self.traffic[USUAL]) / days if days else 0.0

    @cached_property
    def scores(self) -> Floats:
        """Return the score of each probe by each of EXPERTS."""
        return np.stack([self.scores_of(expert) for expert in range(len(EXPERTS))])

    def scores_of(self, expert: int) -> Floats:
        """Return the score of each probe by one of EXPERTS, in what it counts a day of average traffic."""
        measure, number = divmod(expert, len(HALF_LIVES))
        if measure == len(MEASURES):
            return np.asarray(self.window[number] / max(1, min(len(self.rows), WINDOWS[number])))
        exposure = np.maximum(self.exposure[number], max(self._least_exposure[number], TINY))
        usual = self.traffic[number] / max(self.active[number], TINY)
        return np.asarray(self.sums[measure, number] / exposure * usual)

    @cached_property
    def _least_exposure(self) -> Floats:
        """Return the traffic of the last days by half-life, which every probe is judged by at least."""
        ages = np.arange(len(self.recent))
        return np.asarray(_FADING**ages @ np.array(self.recent)) if self.recent else np.zeros(len(HALF_LIVES))


def no_counts(columns: int) -> FadedCounts:
    """Return the sums before the first day."""
    none = np.zeros(len(HALF_LIVES))
    empty = np.zeros((len(HALF_LIVES), columns))
    return FadedCounts(
        np.zeros((len(MEASURES), *empty.shape)),
        empty,
        none,
        none,
        (),
        np.zeros((len(WINDOWS), columns)),
        (),
        np.full(columns, NEVER),
    )
