"""Standing experiment: what each policy would have caught and cost, night by night, kept in a table.

The same code that makes hot lists and backtests replays the nights, from the projections. A night is filled once, and
again when events have come that change it or a night before. Nights are replayed a calendar month at a time, from the
days before that month on, so that they are the same whenever and from wherever they are filled.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import numpy as np
import structlog

from usage_service.hotlist.backtest.differences import Difference, differences
from usage_service.hotlist.backtest.policies import CLAIRVOYANT, HOT_LIST
from usage_service.hotlist.backtest.replaying import BUDGETS, lists_at_nights
from usage_service.hotlist.budgets import DECIMALS, Prices
from usage_service.hotlist.costs import Costs, KnownCost, arrays_of
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.history import Histories
from usage_service.hotlist.learning import MOST_HISTORY_DAYS
from usage_service.probe_keys import Floats
from usage_service.projections.state import Projection, States, snapshot
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

MOST_PRODUCTS = 20
SOON_SECONDS, EVERY_SECONDS = 60.0, 1_800.0
LEASE = timedelta(minutes=10)
READS: tuple[Projection, ...] = ("build_costs", "catalogue", "popularity")
FOLDER = Path(__file__).parent
log = structlog.get_logger(__name__)


class PolicyNight(NamedTuple):
    """What a policy with a budget would have caught on a day, read the night before, and let people wait for.

    Bytes and seconds are None where no build had told yet.
    """

    day: date
    policy: str
    budget: int
    requests: int
    caught: int
    bytes: int | None
    seconds: float | None


@cache
def code_of_policies() -> str:
    """Return the digest of the code that chooses: what other code has filled is not compared with it."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(FOLDER.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


async def keep_experiment(pool: Pool) -> None:
    """Fill the nights that are over, again and again. Of several servers one does, a product at a time."""
    while True:
        await asyncio.sleep(SOON_SECONDS)
        products = list[str]()
        with _survived():
            async with pool.acquire(timeout=5) as connection:
                rows = await connection.fetch(query("experiment", "products"), MOST_PRODUCTS)
            products = [row["product"] for row in rows]
        for product in products:
            with _survived(product=product):
                filled = await fill_nights(pool, product, datetime.now(UTC).date())
                if filled:
                    log.info("policy_nights_filled", product=product, nights=filled)


@contextmanager
def _survived(**about: str) -> Iterator[None]:
    """Log what goes wrong: it ends neither the recording of events nor what comes after it."""
    try:
        yield
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        log.warning("policy_nights_not_filled", **about, error=repr(error))
    except Exception:
        log.exception("policy_nights_failed", **about)


async def fill_nights(pool: Pool, product: str, today: date, code: str | None = None) -> int:
    """Fill the nights before the days until yesterday that are missing or have changed; return how many.

    Nothing is done while another server does it, or did a short time ago.
    """
    code = code or code_of_policies()
    async with pool.acquire(timeout=5) as connection:
        if not await connection.fetchval(query("experiment", "claimed"), code, product, LEASE):
            return 0
    async with snapshot(pool, *READS) as seen:
        catalogue = await _read_catalogue(seen.connection, product)
        first, days = await _days_to_fill(seen.connection, seen.states, code, product, catalogue, today)
    for month in _months(days):
        async with snapshot(pool, *READS) as later:
            replay = await _read_month(later.connection, product, first, month)
        nights = await asyncio.to_thread(replay)  # after the snapshot: it takes seconds
        async with pool.acquire(timeout=5) as connection:
            columns = zip(*nights, strict=True)
            await connection.execute(query("experiment", "store"), code, product, LEASE, *map(list, columns))
    async with pool.acquire(timeout=5) as connection:
        done = seen.states.position, _generations(seen.states), catalogue, timedelta(seconds=EVERY_SECONDS)
        await connection.execute(query("experiment", "end"), code, product, *done)
    return len(days)


async def _read_catalogue(connection: Connection, product: str) -> dict[str, list[object]]:
    """Return what the catalogue knows of each probe now that lists of the past are made with, too."""
    row = await connection.fetchrow(query("hotlist", "catalogue"), product, None, None)
    if row is None or row["probes"] is None:
        return {}
    registered = [at is not None for at in row["registered"]]
    retired = [at.date().isoformat() if at else None for at in row["retired"]]
    known = zip(row["types"], registered, row["hidden"], retired, strict=True)
    return dict(zip(row["probes"], map(list, known), strict=True))


async def _days_to_fill(
    connection: Connection, states: States, code: str, product: str, catalogue: dict[str, list[object]], today: date
) -> tuple[date, list[date]]:
    """Return the first day with requests, and the days whose nights are to be filled: each has a day before it."""
    known = await connection.fetchrow(query("hotlist", "range"), product)
    if known is None or known["first"] is None:
        return today, []
    first: date = known["first"]
    begin, yesterday = first + timedelta(days=1), today - timedelta(days=1)
    filling = await connection.fetchrow(query("experiment", "filling"), code, product)
    whole_from: int = await connection.fetchval(query("hotlist", "whole_from"))
    if filling is not None and _goes_on(filling, states, catalogue, whole_from):
        span = product, filling["log_position"], states.position
        changed: date | None = await connection.fetchval(query("experiment", "changed_since"), *span)
        following = filling["last_day"] + timedelta(days=1) if filling["last_day"] else begin
        begin = max(begin, min(following, changed or following))
    return first, [begin + timedelta(days=number) for number in range((yesterday - begin).days + 1)]


def _goes_on(filling: asyncpg.Record, states: States, catalogue: dict[str, list[object]], whole_from: int) -> bool:
    """Return whether what was filled stands, but for the days that events after it belong to."""
    if filling["log_position"] is None or filling["log_position"] < whole_from - 1:
        return False
    before: dict[str, list[object]] = filling["catalogue"]
    same = all(_is_as_before(known, catalogue.get(probe)) for probe, known in before.items())
    # The first registration of a product takes the probes off the list that are not registered.
    return same and bool(before) == bool(catalogue) and filling["generations"] == _generations(states)


def _is_as_before(known: list[object], now: list[object] | None) -> bool:
    """Return whether a probe is the same, but for a retirement, which only the nights after its event know."""
    return now is not None and known[:-1] == now[:-1] and known[-1] in (None, now[-1])


def _generations(states: States) -> str:
    return " ".join(str(state.generation) for state in states.all)


def _months(days: Sequence[date]) -> Iterator[list[date]]:
    """Split days that follow one another by calendar months."""
    for month in sorted({(day.year, day.month) for day in days}):
        yield [day for day in days if (day.year, day.month) == month]


async def _read_month(
    connection: Connection, product: str, first: date, days: Sequence[date]
) -> Callable[[], list[PolicyNight]]:
    """Return what replays the nights before days of one month."""
    begin = max(first, days[0].replace(day=1) - timedelta(days=MOST_HISTORY_DAYS))
    history = await Histories().read(connection, product, begin, days[-1])
    before = days[0].replace(day=1) - timedelta(days=2)
    known = await connection.fetch(query("build_costs", "known"), product, before)
    later = await connection.fetch(query("experiment", "costs"), product, before + timedelta(days=1), days[-1])
    costs = _NightCosts([KnownCost(*row) for row in known], [(row[0], KnownCost(*row[1:])) for row in later])
    return partial(replay_nights, history.counts(len(history.days)), days, costs)


class _NightCosts:
    """Costs of builds as they were known at nights that follow one another."""

    def __init__(self, known: Sequence[KnownCost], later: Sequence[tuple[date, KnownCost]]) -> None:
        self._known = {(one.channel, one.probe): one for one in known}
        self._later = list(reversed(later))

    def at(self, night_before: date, counts: DayCounts) -> tuple[Floats, Floats]:
        """Return bytes and seconds of each probe, nan where nothing was known at the end of the day before."""
        while self._later and self._later[-1][0] < night_before:
            _, one = self._later.pop()
            self._known[one.channel, one.probe] = one
        # Without the types of probes: what they are now may not be what they were, and a night is to stay as it was.
        costs = arrays_of(Costs(tuple(self._known.values()), {}).estimates(counts.probes))
        return costs.bytes, costs.seconds


def replay_nights(counts: DayCounts, days: Sequence[date], costs: _NightCosts) -> list[PolicyNight]:
    """Return what each policy with each budget would have caught and cost on the days."""
    nights: list[PolicyNight] = []
    rows = [(day - counts.first).days for day in days]
    for row, (_, lists) in zip(rows, lists_at_nights(counts, rows, BUDGETS), strict=True):
        asked = counts.views[row]
        read, seconds = costs.at(counts.day(row), counts)
        # Whoever asks first waits for the build; those after have it.
        waited = np.where(asked > 0, seconds, 0.0)
        for policy, by_budget in lists.items():
            for budget, chosen in zip(BUDGETS, by_budget, strict=True):
                numbers = int(asked.sum()), int(asked[chosen].sum())
                money = _known(read[chosen].sum()), _known(waited.sum() - waited[chosen].sum())
                nights.append(
                    PolicyNight(
                        counts.day(row), policy, budget, *numbers, None if money[0] is None else int(money[0]), money[1]
                    )
                )
    return nights


def _known(number: float) -> float | None:
    return None if np.isnan(number) else round(float(number), 3)


class PolicySince(msgspec.Struct, frozen=True):
    """What a policy with a budget would have caught and cost over some nights.

    `caught` is the share of the requests; `hot_list_ahead` how much more of them the hot list caught, null for itself
    and for the clairvoyant one, which is no policy to be compared with. On the `priced_nights` together, `bytes` would
    have been read at the price of `cost`, and people would have waited for `minutes`; null where there are none.
    """

    policy: str
    budget: int
    caught: float
    hot_list_ahead: Difference | None
    bytes: int | None
    cost: float | None
    minutes: float | None


class Experiment(msgspec.Struct, frozen=True):
    """What each policy would have caught on the days from `first_day` to `last_day`, a night before each.

    Costs are those of `priced_nights`, on which some build had told them. The table has seen the log up to
    `log_position`; it was last filled at `filled_at`. Both are null, and there are no policies, before the first
    filling.
    """

    product: str
    first_day: date | None
    last_day: date | None
    nights: int
    priced_nights: int
    requests: int
    log_position: int | None
    filled_at: datetime | None
    prices: Prices
    policies: list[PolicySince]


async def read_experiment(
    connection: Connection, product: str, first: date, last: date, budget: int | None, prices: Prices
) -> Experiment:
    """Return what each policy would have caught and cost from one day to another, for a budget or for each."""
    code = code_of_policies()
    filling = await connection.fetchrow(query("experiment", "filling"), code, product)
    rows = await connection.fetch(query("experiment", "summed"), code, product, first, last, budget)
    told = filling["log_position"] if filling else None, filling["filled_at"] if filling else None
    if not rows:
        return Experiment(product, None, None, 0, 0, 0, *told, prices, [])
    found = await asyncio.to_thread(_compared, rows, prices)
    one, nights = rows[0], len(rows[0]["requests"])
    about = one["first_day"], one["last_day"], nights, one["priced"], sum(one["requests"])
    return Experiment(product, *about, *told, prices, found)


def _compared(rows: Sequence[asyncpg.Record], prices: Prices) -> list[PolicySince]:
    """Return the policies by budget, each with how much more the hot list caught."""
    names, budgets = list(dict.fromkeys(row["policy"] for row in rows)), {row["budget"] for row in rows}
    requests = np.array(rows[0]["requests"], dtype=np.float64)
    caught = np.array([row["caught"] for row in rows], dtype=np.float64).reshape(len(names), len(budgets), -1)
    others = [number for number, name in enumerate(names) if name not in (HOT_LIST, CLAIRVOYANT)]
    own = caught[names.index(HOT_LIST)]
    nothing: list[Difference | None] = [None] * len(budgets)
    by_policy = dict.fromkeys(range(len(names)), nothing)
    if requests.sum():
        for number, found in zip(others, differences(own - caught[others], requests), strict=True):
            by_policy[number] = [*found]
    ahead = [by_policy[number][place] for number in range(len(names)) for place in range(len(budgets))]
    return [_policy_since(row, one, prices) for row, one in zip(rows, ahead, strict=True)]


def _policy_since(row: asyncpg.Record, ahead: Difference | None, prices: Prices) -> PolicySince:
    read, waited, requests = row["bytes"], row["seconds"], sum(row["requests"])
    return PolicySince(
        row["policy"],
        row["budget"],
        round(sum(row["caught"]) / requests, 6) if requests else 0.0,
        ahead,
        None if read is None else int(read),
        None if read is None else round(float(prices.of_bytes(np.array(read))), DECIMALS),
        None if waited is None else round(waited / 60, 3),
    )
