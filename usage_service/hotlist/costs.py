"""Costs of building probes: the bytes that a build reads and the time that it takes, as past builds tell.

A night builds a probe for every channel that any build of the product was for. What was never built is taken to cost
the median of its metric type in that channel, else of the channel, else of everything that is known; the estimate says
which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from statistics import median
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from usage_service.hotlist.counts import Columns
from usage_service.probe_keys import Floats, Ints, ProbeKey
from usage_service.projections.state import Revision, State, read_states
from usage_service.queries import query
from usage_service.shared.postgres import Connection

MOST_KEPT = 16
MOST_BEHIND = 200_000  # positions: to scan more of them takes as long as to read all costs

Basis = Literal["builds", "type", "channel", "all"]
BASES: tuple[Basis, ...] = ("builds", "type", "channel", "all")  # the surest first


class KnownCost(NamedTuple):
    """Bytes and seconds of the last build of a probe in a channel; older events do not tell the seconds."""

    product: str
    channel: str
    probe: str
    bytes: int
    seconds: float | None


class Cost(msgspec.Struct, frozen=True):
    """Cost of building a probe: the bytes of a night (all channels together) and the seconds of one build.

    `basis` is what they are known from: the probe's own `builds`, else the median of its `type`, of its `channel`, or
    of `all` builds.
    """

    bytes: int
    seconds: float | None
    basis: Basis


class CostArrays(NamedTuple):
    """Costs of some probes: bytes and seconds, nan where they are not known, and what they are known from."""

    bytes: Floats
    seconds: Floats
    bases: Sequence[Basis | None]

    def of(self, places: Ints) -> CostArrays:
        """Return the costs of the probes at some places."""
        return CostArrays(self.bytes[places], self.seconds[places], [self.bases[place] for place in places.tolist()])


def arrays_of(costs: Sequence[Cost | None]) -> CostArrays:
    """Return costs as arrays."""
    read = [cost.bytes if cost else np.nan for cost in costs]
    seconds = [cost.seconds if cost and cost.seconds is not None else np.nan for cost in costs]
    bases = [cost.basis if cost else None for cost in costs]
    return CostArrays(np.array(read, dtype=np.float64), np.array(seconds, dtype=np.float64), bases)


@dataclass(frozen=True)
class Costs:
    """Known costs, and the metric types of probes, from which those of the others are estimated."""

    known: tuple[KnownCost, ...]
    types: Mapping[ProbeKey, str]
    _last: list[tuple[Columns, CostArrays]] = field(default_factory=list, compare=False, repr=False)

    def estimates(self, probes: Iterable[ProbeKey], channel: str | None = None) -> list[Cost | None]:
        """Return the cost of each of the probes, for a channel or for all; None for each where nothing is known."""
        estimator = self._of_all if channel is None else _Estimator(self, channel)
        return [estimator.cost(key) for key in probes]

    def of_columns(self, columns: Columns) -> CostArrays:
        """Return the cost of each column's probe, all channels together; the last columns are remembered."""
        for kept, arrays in self._last:
            if kept is columns:
                return arrays
        arrays = arrays_of(self.estimates(columns.probes))
        self._last[:] = [(columns, arrays)]
        return arrays

    @cached_property
    def _of_all(self) -> _Estimator:
        return _Estimator(self, None)


class _Usual(NamedTuple):
    bytes: int
    seconds: float | None
    basis: Basis


class _Estimator:
    """Costs of probes, each of which is estimated once; probes of a type that were never built cost the same."""

    def __init__(self, costs: Costs, channel: str | None) -> None:
        self._types = costs.types
        self._asked = channel
        self._own: defaultdict[ProbeKey, dict[str, KnownCost]] = defaultdict(dict)
        self._channels: defaultdict[str, set[str]] = defaultdict(set)
        alike: defaultdict[tuple[str, ...], list[KnownCost]] = defaultdict(list)
        for one in costs.known:
            key = ProbeKey(one.product, one.probe)
            self._own[key][one.channel] = one
            self._channels[one.product].add(one.channel)
            for group in ((one.product, one.channel, self._types.get(key, "")), (one.product, one.channel), ()):
                alike[group].append(one)
        self._medians = {group: _median(members) for group, members in alike.items()}
        self._usual: dict[tuple[str, str, str], _Usual] = {}
        self._costs: dict[ProbeKey | tuple[str, str], Cost] = {}

    def cost(self, key: ProbeKey) -> Cost | None:
        """Return the cost of a probe, or None where nothing is known."""
        if not self._medians:
            return None
        place = key if key in self._own else (key.product, self._types.get(key, ""))
        if place not in self._costs:
            self._costs[place] = self._estimate(key)
        return self._costs[place]

    def _estimate(self, key: ProbeKey) -> Cost:
        channels = [self._asked] if self._asked else sorted(self._channels[key.product]) or [""]
        parts = [self._of_channel(key, channel) for channel in channels]
        seconds = [part.seconds for part in parts if part.seconds is not None]
        basis = max((part.basis for part in parts), key=BASES.index)
        usual = round(sum(seconds) / len(seconds), 3) if seconds else None
        return Cost(sum(part.bytes for part in parts), usual, basis)

    def _of_channel(self, key: ProbeKey, channel: str) -> _Usual:
        usual = self._usual_of(key.product, channel, self._types.get(key, ""))
        own = self._own[key].get(channel) if key in self._own else None
        return _Usual(own.bytes, usual.seconds if own.seconds is None else own.seconds, "builds") if own else usual

    def _usual_of(self, product: str, channel: str, kind: str) -> _Usual:
        """Return what is usual for a type, where that was ever built, else for the channel, else for all."""
        place = product, channel, kind
        if place not in self._usual:
            groups: tuple[tuple[str, ...], ...] = (place, (product, channel), ())
            known = [
                (basis, *self._medians[group])
                for basis, group in zip(BASES[1:], groups, strict=True)
                if group in self._medians
            ]
            basis, read, _ = known[0]
            seconds = next((seconds for _, _, seconds in known if seconds is not None), None)
            self._usual[place] = _Usual(read, seconds, basis)
        return self._usual[place]


def _median(members: Sequence[KnownCost]) -> tuple[int, float | None]:
    seconds = [one.seconds for one in members if one.seconds is not None]
    return round(median(one.bytes for one in members)), median(seconds) if seconds else None


class _Kept(NamedTuple):
    """Costs as of a state of the projections: every event up to `position` is in them."""

    generation: UUID
    position: int
    types_of: Revision
    costs: Costs


class CostReader:
    """Costs as of some days, remembered; after builds have ended only theirs are read."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, date], _Kept] = {}

    async def read(self, connection: Connection, product: str | None, last_day: date) -> Costs:
        """Return what the builds up to a day have cost, as the connection's snapshot of the projections has it."""
        states = await read_states(connection, "build_costs", "catalogue")
        now, types_of = states.of("build_costs"), states.of("catalogue").revision
        asked = product, last_day
        kept = self._kept.get(asked)
        known = await self._read_known(connection, asked, now, kept)
        types = kept.costs.types if kept and kept.types_of == types_of else await _read_types(connection, product)
        unchanged = kept is not None and known is kept.costs.known and types is kept.costs.types
        costs = kept.costs if kept and unchanged else Costs(known, types)
        self._keep(asked, _Kept(now.generation, now.position, types_of, costs))
        return costs

    async def _read_known(
        self, connection: Connection, asked: tuple[str | None, date], now: State, kept: _Kept | None
    ) -> tuple[KnownCost, ...]:
        """Return the known costs: those kept, if no build has ended since; else with those that have changed."""
        if kept is not None and kept.generation == now.generation:
            if now.changed_at <= kept.position <= now.position:
                return kept.costs.known
            whole_from: int = await connection.fetchval(query("hotlist", "whole_from"))
            if max(now.position - MOST_BEHIND, whole_from - 1) <= kept.position <= now.position:
                span = kept.position, now.position
                changed = map(KnownCost._make, await connection.fetch(query("build_costs", "changed"), *asked, *span))
                by_name = {one[:3]: one for one in (*kept.costs.known, *changed)}
                return tuple(by_name[name] for name in sorted(by_name))
        rows = await connection.fetch(query("build_costs", "known"), *asked)
        return tuple(sorted(map(KnownCost._make, rows), key=lambda one: one[:3]))

    def _keep(self, asked: tuple[str | None, date], made: _Kept) -> None:
        before = self._kept.pop(asked, None)
        # Of two readers the one with the newer snapshot is kept.
        newer = before if before and before.generation == made.generation and before.position > made.position else made
        self._kept[asked] = newer
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]


async def _read_types(connection: Connection, product: str | None) -> dict[ProbeKey, str]:
    row = await connection.fetchrow(query("build_costs", "types"), product)
    if row is None or row["products"] is None:
        return {}
    return dict(zip(map(ProbeKey, row["products"], row["probes"]), row["metric_types"], strict=True))
