"""Budgets of a hot list: a number of probes, bytes or money a night, or what building is worth.

What a probe is worth: whoever first asks for a probe that was not built waits for the build, whose bytes are read then
instead of at night. So not building it is expected to cost the chance that anybody asks, times the price of the bytes
and of the minutes of that wait; building it costs the bytes for certain. The chance is that of at least one request
where so many are expected, as if they came independently of each other (Poisson).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from usage_service.hotlist.costs import BASES, Basis, CostArrays
from usage_service.probe_keys import Floats, Ints
from usage_service.shared.patterns import worded
from usage_service.shared.settings import MOST_BYTES

MOST_PROBES = 10_000
DEFAULT_BUDGET = 100
TIB = 2**40
SIZES = {"mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 2**20, "gib": 2**30, "tib": TIB}
UNITS = "([MGTmgt][Ii]?[Bb]|[Uu][Ss][Dd])"  # in letters of either case, as people type them
AMOUNT = re.compile(r"([0-9.]+)([A-Za-z]+)")
DECIMALS = 6  # of money, minutes and requests

Number = Annotated[int, Meta(ge=1, le=MOST_PROBES)]
BudgetText = Annotated[
    str,
    Meta(
        pattern=worded(
            rf"^(auto|10000|[1-9][0-9]{{0,3}}|[0-9]{{1,9}}([.][0-9]{{1,6}})?{UNITS})(?!\n)$",
            "a number of probes from 1 to 10,000, an amount such as 500GB, 2TiB or 2.50USD, or auto",
        ),
        description="the largest number of probes; or what a night may read (500GB, 2TiB) or cost (2.50USD); or `auto`",
    ),
]


class NothingKnownError(Exception):
    """Nothing can be chosen by costs, because no build has told yet what it costs; the message says so."""


class Prices(msgspec.Struct, frozen=True):
    """Prices in US dollars: of reading a TiB, and of a minute for which somebody waits."""

    tib: float
    minute: float

    def of_bytes(self, read: Floats) -> Floats:
        """Return the price of reading so many bytes."""
        return np.asarray(read / TIB * self.tib)

    def of_seconds(self, waited: Floats) -> Floats:
        """Return the price of waiting for so many seconds."""
        return np.asarray(waited / 60 * self.minute)


class Budget(NamedTuple):
    """Largest number of probes, and the bytes that they may read; `auto` as long as building costs less than waiting.

    `asked` is how it was written.
    """

    asked: int | str
    probes: int = MOST_PROBES
    bytes: int | None = None
    auto: bool = False

    @property
    def by_cost(self) -> bool:
        """Return whether costs decide which probes are chosen."""
        return self.auto or self.bytes is not None


def read_budget(asked: int | str, prices: Prices) -> Budget:
    """Read a budget; money is turned into the bytes that it pays for, and what is beyond all bytes into the most."""
    if isinstance(asked, int) or asked.isdigit():
        return Budget(int(asked), probes=int(asked))
    if asked == "auto":
        return Budget(asked, auto=True)
    amount = AMOUNT.fullmatch(asked)
    assert amount is not None  # of the form of a BudgetText
    number, unit = float(amount[1]), amount[2].lower()
    if unit in SIZES:
        read = number * SIZES[unit]
    elif prices.tib:
        read = number / prices.tib * TIB
    else:
        return Budget(asked)
    return Budget(asked, bytes=int(min(read, MOST_BYTES)))


class ProbeWorth(msgspec.Struct, frozen=True):
    """What building a probe is worth: the requests expected on the day, and what building it costs or saves.

    A night reads `bytes`, known from `bytes_basis`, at the price of `cost`. Not to build the probe is expected to cost
    `cost_unbuilt`, bytes and waiting together. Null where no build has told yet.
    """

    requests: float
    bytes: int | None
    bytes_basis: Basis | None
    cost: float | None
    cost_unbuilt: float | None


class Worth(NamedTuple):
    """What building each of some probes is worth: arrays with an entry for each, nan where no cost is known."""

    requests: Floats  # expected on the day
    bytes: Floats  # of a night
    seconds: Floats  # of a build that somebody waits for
    cost: Floats  # of building it
    cost_unbuilt: Floats  # expected, of not building it
    bases: Sequence[Basis | None]

    def of(self, place: int) -> ProbeWorth:
        """Return what building one of them is worth."""
        basis, requests = self.bases[place], round(float(self.requests[place]), DECIMALS)
        if basis is None:
            return ProbeWorth(requests, None, None, None, None)
        money = (round(float(array[place]), DECIMALS) for array in (self.cost, self.cost_unbuilt))
        return ProbeWorth(requests, int(self.bytes[place]), basis, *money)

    @property
    def waited(self) -> Floats:
        """Return the seconds that somebody is expected to wait for each probe if it is not built."""
        return np.asarray(chance_of_any(self.requests) * self.seconds)


def chance_of_any(requests: Floats) -> Floats:
    """Return the chance of at least one request, where so many are expected."""
    return np.asarray(-np.expm1(-requests))


def weigh(requests: Floats, costs: CostArrays, prices: Prices) -> Worth:
    """Return what building probes is worth, from the requests expected for each and what it costs."""
    cost = prices.of_bytes(costs.bytes)
    unbuilt = chance_of_any(requests) * (cost + prices.of_seconds(np.nan_to_num(costs.seconds)))
    return Worth(requests, costs.bytes, costs.seconds, cost, np.asarray(unbuilt), costs.bases)


class Choice(NamedTuple):
    """Places of the probes to build, best first, and why the list ends after them."""

    places: Ints
    ends: str


def choose(worth: Worth, pinned: int, budget: Budget, spent: float, names: Sequence[str]) -> Choice:
    """Choose by costs among probes in the order of their scores, of which the first `pinned` are chosen anyhow.

    A budget of bytes takes the most expected requests a byte first, and passes over what does not fit any more; `spent`
    bytes are used already. `auto` takes the probes that cost more unbuilt than built, the highest ratio first. Ties
    keep the order of the scores. Raise NothingKnownError where no cost is known.
    """
    if np.isnan(worth.bytes).any():
        raise NothingKnownError("no build has told yet how much it reads")
    if budget.auto and np.isnan(worth.seconds).any():
        raise NothingKnownError("no build has told yet how long it takes")
    kept, rest = np.arange(pinned), np.arange(pinned, len(worth.bytes))
    if budget.auto:
        return _worthwhile(worth, kept, rest, names)
    value = _ratio(worth.requests[rest], worth.bytes[rest])
    order = rest[np.argsort(-value, kind="stable")]
    left = (budget.bytes or 0) - int(spent + worth.bytes[kept].sum())
    chosen: list[int] = []
    passed: int | None = None
    for place, read in zip(order.tolist(), worth.bytes[order].tolist(), strict=True):
        if read <= left:
            chosen.append(place)
            left -= int(read)
        elif passed is None:
            passed = place
    places = np.concatenate([kept, np.array(chosen, dtype=np.int64)])
    if passed is None:
        return Choice(places, "every probe with a score fits into the budget")
    reads = f"{names[passed]} would read {int(worth.bytes[passed]):,} bytes"
    return Choice(places, f"the budget is used up: {reads}, and {max(0, left):,} of {budget.bytes or 0:,} are left")


def _worthwhile(worth: Worth, kept: Ints, rest: Ints, names: Sequence[str]) -> Choice:
    value = _ratio(worth.cost_unbuilt[rest], worth.cost[rest])
    order = rest[np.argsort(-value, kind="stable")]
    pays = int(np.count_nonzero(value > 1))
    places = np.concatenate([kept, order[:pays]])
    if pays == len(order):
        return Choice(places, "building every probe with a score costs less than waiting for it")
    following = int(order[pays])
    chance = float(chance_of_any(worth.requests[following]))
    cost, unbuilt = float(worth.cost[following]), float(worth.cost_unbuilt[following])
    return Choice(
        places,
        f"the next probe, {names[following]}, costs {cost:.6f} USD to build, and {unbuilt:.6f} USD if it is not built: "
        f"with a chance of {chance:.1%} somebody waits for it",
    )


def _ratio(value: Floats, cost: Floats) -> Floats:
    """Return the value of a unit of cost, infinite where something worth having costs nothing."""
    free = np.where(value > 0, np.inf, 0.0)
    return np.asarray(np.divide(value, cost, out=free, where=cost > 0))


class Account(msgspec.Struct, frozen=True):
    """What a list costs a night, and what it saves.

    `bytes` are read, known from `bytes_basis` or something surer, and `cost` is their price; null where no build has
    told its bytes yet. People are expected to wait for `minutes` on the day, for what is not listed; without the list
    for `minutes_without`. `ends` says why the list ends where it does.
    """

    bytes: int | None
    bytes_basis: Basis | None
    cost: float | None
    minutes: float | None
    minutes_without: float | None
    prices: Prices
    ends: str


def account_of(worth: Worth, places: Ints, pinned: Worth, unseen: float, prices: Prices, ends: str) -> Account:
    """Return the account of a list: of the probes at these places, and of those `pinned` that nobody ever viewed.

    So many `unseen` requests are expected for probes that cannot be listed; each waits for a build that takes as long
    as the median one.
    """
    listed = [*(worth.bases[place] for place in places.tolist()), *pinned.bases]
    bases = [basis for basis in listed if basis is not None]
    is_known = len(bases) == len(places) + len(pinned.bases)
    read = int(worth.bytes[places].sum() + pinned.bytes.sum()) if is_known else 0
    usual = worth.seconds[~np.isnan(worth.seconds)]
    without = (worth.waited.sum() + unseen * np.median(usual)) / 60 if len(usual) else None
    saved = worth.waited[places].sum() / 60
    return Account(
        read if is_known else None,
        max(bases, key=BASES.index, default=None) if is_known else None,
        round(float(prices.of_bytes(np.array(float(read)))), DECIMALS) if is_known else None,
        None if without is None else round(float(without - saved), DECIMALS),
        None if without is None else round(float(without), DECIMALS),
        prices,
        ends,
    )
