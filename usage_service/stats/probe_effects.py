"""Effect of a release, or of any day, on the views of each probe, corrected for looking at many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import msgspec
import numpy as np

from usage_service.probe_keys import Floats
from usage_service.shared.postgres import Connection
from usage_service.stats.discoveries import discoveries_among
from usage_service.stats.release_effects import AFTER, BEFORE, LEAST_COUNT, Estimate, fit_ratios
from usage_service.stats.releases import HISTORY_DAYS, SIGNIFICANT, Calendar, Effect, effect_of
from usage_service.stats.timeseries import ALL_PROBES, viewed_days
from usage_service.stats.view_counts import ViewCounts, Views
from usage_service.windows import Days


class ProbeEffect(msgspec.Struct, frozen=True):
    """Views of a probe before and after, a day's ratio with its interval, and the p-value corrected for the number.

    `effect` is up or down where the probe is among those of which at most 5 % are expected to be chance.
    """

    probe: str
    views_before: int
    views_after: int
    ratio: float
    low: float
    high: float
    p_value: float
    effect: Effect


class ProbeEffects(msgspec.Struct, frozen=True):
    """Probes whose views a mark moved, the surest first, then the others.

    `tested` had enough views, `too_few` some, but too few to tell. `confidence` is that of each interval: of all
    intervals of probes that moved, 95 % are expected to cover. `first_day` is the first with a view.
    """

    product: str
    channel: str | None
    published_at: datetime
    first_day: date | None
    days_before: int
    days_after: int
    tested: int
    too_few: int
    moved: int
    confidence: float
    probes: list[ProbeEffect]


async def probe_effects(
    connection: Connection,
    counts: ViewCounts,
    product: str,
    channel: str | None,
    mark: datetime,
    days: int,
    today: date,
    limit: int,
) -> Callable[[], ProbeEffects]:
    """Read the views of the probes around a mark; return what computes the first `limit` effects of it."""
    viewed = await viewed_days(connection, product, ALL_PROBES, channel)
    first = viewed.first if viewed else None
    calendar = Calendar(mark, days, first, today)
    begin = calendar.compared.first - timedelta(days=HISTORY_DAYS)
    every = [begin + timedelta(days=number) for number in range((calendar.compared.last - begin).days + 1)]
    views = await counts.read(connection, [Days(day, day) for day in every])
    hidden = await counts.hidden.mask(connection, views[0].columns.probes)

    def computed() -> ProbeEffects:
        columns = views[0].columns
        daily = np.array([_by_probe(one, product, channel) for one in views])
        daily[:, hidden] = 0
        compared = daily[HISTORY_DAYS:].sum(axis=0)
        places = np.flatnonzero(compared >= LEAST_COUNT)
        known_days = daily[calendar.ordinals - begin.toordinal()][:, places].T
        fits = fit_ratios(known_days, calendar.weekdays, calendar.periods)
        adjusted, confidence = discoveries_among(fits.p_values())
        strengths = np.round(np.abs(fits.effects), 9)  # equal ones are in the order of names
        order = np.lexsort((columns.ranks[places[fits.places]], -strengths, adjusted))[:limit]
        shown = fits.some(order)
        names = [columns.probes[place].probe for place in places[shown.places].tolist()]
        numbers_of_days = calendar.number_of(BEFORE), calendar.number_of(AFTER)
        too_few = int(np.count_nonzero(compared)) - len(adjusted)
        moved = int(np.count_nonzero(adjusted < SIGNIFICANT))
        effects = _effects(names, known_days[shown.places], calendar, shown.estimates(confidence), adjusted[order])
        of = product, channel, mark, first
        return ProbeEffects(*of, *numbers_of_days, len(adjusted), too_few, moved, confidence, effects)

    return computed


def _by_probe(views: Views, product: str, channel: str | None) -> Floats:
    """Return how often people viewed each probe; those of other products never."""
    columns = views.columns
    chosen = columns.chosen(product, channel, bots=False)
    return np.bincount(columns.probe_of[chosen], views.counts(chosen).sum(axis=0), len(columns.probes)).astype(
        np.float64
    )


def _effects(
    names: Sequence[str], counts: Floats, calendar: Calendar, estimates: Sequence[Estimate], adjusted: Floats
) -> list[ProbeEffect]:
    """Return the effect on each of these probes, with its p-value adjusted."""
    before, after = (counts[:, calendar.periods == period].sum(axis=1).tolist() for period in (BEFORE, AFTER))
    corrected = [one._replace(p_value=p_value) for one, p_value in zip(estimates, adjusted.tolist(), strict=True)]
    return [
        ProbeEffect(name, int(viewed_before), int(viewed_after), *estimate, effect_of(estimate))
        for name, viewed_before, viewed_after, estimate in zip(names, before, after, corrected, strict=True)
    ]
