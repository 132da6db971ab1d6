"""Policies that choose probes to build: the hot list, its experts on their own, and rules that others use.

Each lists probes, from the days before a night alone. A cache with room for so many probes is the list of that length.
Whoever asks a policy leaves out what may not be listed at that night, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.experts import EXPERTS, Expert
from usage_service.hotlist.learning import MOST_HISTORY_DAYS, Night
from usage_service.hotlist.ranking import ranking
from usage_service.probe_keys import Counts, Floats, Ints

GLAM_DAYS = 90
HOT_LIST = "hot_list"
CLAIRVOYANT = "clairvoyant"  # knows the next day: an upper bound for any list of that length


class Past(NamedTuple):
    """Days before a night, which is that before the day of `row`, and the hot list that was made of them."""

    counts: DayCounts
    row: int
    night: Night

    def views(self, days: int) -> Counts:
        """Return the requests of the last so many days."""
        return self.counts.views[max(0, self.row - days) : self.row]


Policy: TypeAlias = Callable[[Past, Sequence[int]], Sequence[Ints]]  # the columns to list, best first, for each room


def _whatever_room(choose: Callable[[Past], Ints]) -> Policy:
    """Return the policy whose shorter lists are the beginnings of its longest."""
    return lambda past, rooms: [choose(past)] * len(rooms)


def hot_list(past: Past) -> Ints:
    """List what the service's hot list does."""
    return past.night.order


def clairvoyant(past: Past) -> Ints:
    """List the probes that will be requested on the day to come, those with most requests first."""
    asked: Floats = past.counts.views[past.row].astype(np.float64)
    return ranking(asked, past.counts.ranks)


def _expert(expert: Expert) -> Policy:
    """Return the policy that always listens to one expert."""
    place = EXPERTS.index(expert)
    return _whatever_room(lambda past: ranking(past.night.scores[place], past.counts.ranks))


def last_recently_used(past: Past) -> Ints:
    """List by the day of the last request, as an LRU cache does, which drops the least recently used first."""
    views = past.views(MOST_HISTORY_DAYS)
    days = np.arange(1, len(views) + 1)[:, None] * (views > 0)
    return ranking(np.asarray(days.max(axis=0, initial=0), dtype=np.float64), past.counts.ranks)


def viewed_lately(past: Past) -> Ints:
    """List alike all probes that were viewed in the last 90 days, which is GLAM's rule."""
    return ranking(np.asarray(past.views(GLAM_DAYS).any(axis=0), dtype=np.float64), past.counts.ranks)


class LfuWithAgeing:
    """What an LFU cache with dynamic ageing holds after the days before, as if all requests of a day came at once.

    A probe's key is the number of its requests since it came into the cache, plus the age of the cache, which is the
    key of what was dropped last: M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich, T. Jin, Evaluating Content
    Management Techniques for Web Proxy Caches, Performance Evaluation Review 27, 2000 (LFU-DA). Nights are asked for
    in order.
    """

    def __init__(self) -> None:
        self._caches: dict[int, _Cache] = {}

    def __call__(self, past: Past, rooms: Sequence[int]) -> list[Ints]:
        """Return what caches with such rooms hold."""
        return [self._held(past, room) for room in rooms]

    def _held(self, past: Past, room: int) -> Ints:
        cache = self._caches.setdefault(room, _Cache(len(past.counts.probes)))
        for row in range(cache.days, past.row):
            cache.take(past.counts, row, room)
        return ranking(cache.keys, past.counts.ranks)


class _Cache:
    def __init__(self, probes: int) -> None:
        self.days, self.age = 0, 0.0
        self.keys, self.requests = np.zeros(probes), np.zeros(probes)

    def take(self, counts: DayCounts, row: int, room: int) -> None:
        self.days += 1
        views = counts.views[row]
        # What may not be listed at the night after the day takes no room of others.
        listable = counts.columns.listable_at(counts.day(row + 1).toordinal())
        self.requests = np.where(listable, self.requests + views, 0.0)
        self.keys = np.where(listable, np.where(views > 0, self.requests + self.age, self.keys), 0.0)
        if np.count_nonzero(self.keys) > room:
            dropped = ranking(self.keys, counts.ranks)[room:]
            self.age = max(self.age, float(self.keys[dropped[0]]))
            self.keys[dropped] = self.requests[dropped] = 0.0


def new_policies() -> dict[str, Policy]:
    """Return the policies by name, for nights that are asked for in order."""
    return {
        HOT_LIST: _whatever_room(hot_list),
        **{f"most_viewed_{days}d": _expert(Expert("most_viewed", days, "requests")) for days in (7, 30, 90)},
        **{f"half_life_{days}d": _expert(Expert("half_life", days, "between")) for days in (7, 28, 60)},
        "last_recently_used": _whatever_room(last_recently_used),
        "lfu_with_ageing": LfuWithAgeing(),
        "viewed_in_90d": _whatever_room(viewed_lately),
        CLAIRVOYANT: _whatever_room(clairvoyant),
    }
