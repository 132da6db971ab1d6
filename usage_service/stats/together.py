"""Probes that people view in the same sessions as a probe, more often than chance would have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from usage_service.probe_keys import Floats, ProbeKey
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.view_counts import ViewCounts
from usage_service.windows import Days

VISITS_READ = 1_000
EVENTS_READ = 500  # of a session
Z = 1.959964  # of a 95 % interval
MOST_SHARE = 1 - 1e-9


class ViewedTogether(msgspec.Struct, frozen=True):
    """Another probe, and the number of the sessions read in which it was viewed, too.

    By chance it would be in `expected` of them. `lift` is their ratio; with 95 % confidence it is `lift_at_least`.
    """

    product: str
    probe: str
    sessions: int
    expected: float
    lift: float
    lift_at_least: float


class Together(msgspec.Struct, frozen=True):
    """Probes viewed in the same sessions as one: that with the highest `lift_at_least` first.

    `sessions` were read, the latest of the time range; `sessions_cut` of them had more than 500 events, of which the
    first 500 are read.
    """

    sessions: int
    sessions_cut: int
    probes: list[ViewedTogether]


async def viewed_together(
    connection: Connection, counts: ViewCounts, since: datetime, until: datetime, product: str, probe: str, limit: int
) -> Together:
    """Return the probes of a product that people viewed in the same sessions as a probe of it, by their lift.

    Only sessions that began in the time range count. The latest VISITS_READ visits to the probe are read; a visit is
    all of a visitor's views of it in one hour.
    """
    rows = await connection.fetch(query("together", "viewed"), since, until, product, probe, VISITS_READ, EVENTS_READ)
    sessions = {row["number"]: row["sessions"] for row in rows if row["kind"] == "session"}
    viewed = {row["probe"]: row["sessions"] for row in rows if row["kind"] == "probe"}
    others = [ProbeKey(product, name) for name in sorted(viewed)]
    hidden = await counts.hidden.mask(connection, others)
    others = [key for key, is_hidden in zip(others, hidden.tolist(), strict=True) if not is_hidden]
    [cut] = [row for row in rows if row["kind"] == "cut"]
    number = sum(sessions.values())
    if not others:
        return Together(number, cut["sessions"], [])
    days = Days(cut["first"].astimezone(UTC).date(), cut["last"].astimezone(UTC).date())
    shares = await _shares_of_views(connection, counts, days, ProbeKey(product, probe), others)
    observed = np.array([viewed[key.probe] for key in others], dtype=np.float64)
    expected = expected_sessions(sessions, shares)
    least = np.round(lift_at_least(observed, expected), 3)
    best = np.lexsort((-observed, -least))[:limit]  # names are in their order
    chances, lifts = (np.round(column[best], 3).tolist() for column in (expected, observed / expected))
    found = [
        ViewedTogether(product, others[place].probe, viewed[others[place].probe], chance, lift, sure)
        for place, chance, lift, sure in zip(best.tolist(), chances, lifts, least[best].tolist(), strict=True)
    ]
    return Together(number, cut["sessions"], found)


def expected_sessions(sessions: Mapping[int, int], shares: Floats) -> Floats:
    """Return in how many sessions probes would be by chance that have these shares of all views of other probes.

    `sessions` has the number of sessions by how many probes they viewed, one of which is given. Chance fills the other
    places of each session independently of that one. So who views much in any case makes no pair look related.
    """
    unlikely = np.log1p(-shares)
    whole = np.zeros_like(shares)
    for probes, number in sessions.items():
        whole -= number * np.expm1((probes - 1) * unlikely)
    return whole


def lift_at_least(observed: Floats, expected: Floats) -> Floats:
    """Return the lower ends of the 95 % intervals of observed / expected, where what is observed are Poisson counts.

    This is Byar's approximation (Breslow and Day, Statistical methods in cancer research II, 1987, page 69).
    """
    lower = 1 - 1 / (9 * observed) - Z / (3 * np.sqrt(observed))
    return np.asarray(observed * np.maximum(lower, 0.0) ** 3 / expected)


async def _shares_of_views(
    connection: Connection, counts: ViewCounts, days: Days, key: ProbeKey, others: Sequence[ProbeKey]
) -> Floats:
    """Return the share of each of the `others` in the views by people of all probes of the product but this one.

    None is 0, also where retention has dropped the counts, nor 1.
    """
    [views] = await counts.read(connection, [days])
    columns = views.columns
    chosen = columns.chosen(key.product, None, bots=False)
    totals = np.bincount(columns.probe_of[chosen], views.counts(chosen).sum(axis=0), len(columns.probes) + 1)
    beyond = len(columns.probes)  # where nothing is viewed
    places = [columns.places.get(other, beyond) for other in (key, *others)]
    own, *viewed = totals[places]
    return np.asarray(np.clip(np.maximum(viewed, 1.0) / max(totals.sum() - own, 1.0), 0, MOST_SHARE))
