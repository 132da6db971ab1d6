"""Standing experiment: what each policy would have caught and cost, night by night, kept in a table.

The same code that makes hot lists and backtests replays the nights, from the projections. A night is filled once, and
again when events have come that change it or a night before. Nights are replayed a calendar month at a time, from the
days before that month on, so that they are the same whenever and from wherever they are filled.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import numpy as np
import structlog

from usage_service.hotlist.backtest.policies import HOT_LIST
from usage_service.hotlist.backtest.replaying import BUDGETS, lists_at_nights
from usage_service.hotlist.budgets import DECIMALS, Prices
from usage_service.hotlist.costs import Costs, KnownCost
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
        try:
            async with pool.acquire(timeout=5) as connection:
                products = [
                    row["product"] for row in await connection.fetch(query("experiment", "products"), MOST_PRODUCTS)
                ]
            for product in products:
                filled = await fill_nights(pool, product, datetime.now(UTC).date())
                if filled:
                    log.info("policy_nights_filled", product=product, nights=filled)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("policy_nights_not_filled", error=repr(error))
        except Exception:  # what is not right here must not end the recording of events
            log.exception("policy_nights_failed")


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
            nights = await _replayed(later.connection, product, first, month)
        async with pool.acquire(timeout=5) as connection:
            columns = zip(*nights, strict=True)
            await connection.execute(query("experiment", "store"), code, product, LEASE, *map(list, columns))
    async with pool.acquire(timeout=5) as connection:
        done = seen.states.position, _generations(seen.states), catalogue, timedelta(seconds=EVERY_SECONDS)
        await connection.execute(query("experiment", "end"), code, product, *done)
    return len(days)


async def _read_catalogue(connection: Connection, product: str) -> dict[str, list[object]]:
    """Return what the catalogue knows of each probe now that lists of the past are made with, too."""
    row = await connection.fetchrow(query("hotlist", "catalogue"), product)
    if row is None or row["probes"] is None:
        return {}
    known = zip(row["types"], [at is not None for at in row["registered"]], row["unlistable"], strict=True)
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
    same = all(catalogue.get(probe) == known for probe, known in before.items())
    # The first registration of a product takes the probes off the list that are not registered.
    return same and bool(before) == bool(catalogue) and filling["generations"] == _generations(states)


def _generations(states: States) -> str:
    return " ".join(str(state.generation) for state in states.all)


def _months(days: Sequence[date]) -> Iterator[list[date]]:
    """Split days that follow one another by calendar months."""
    for month in sorted({(day.year, day.month) for day in days}):
        yield [day for day in days if (day.year, day.month) == month]


async def _replayed(connection: Connection, product: str, first: date, days: Sequence[date]) -> list[PolicyNight]:
    """Replay the nights before days of one month."""
    begin = max(first, days[0].replace(day=1) - timedelta(days=MOST_HISTORY_DAYS))
    history = await Histories().read(connection, product, begin, days[-1])
    before = days[0].replace(day=1) - timedelta(days=2)
    known = await connection.fetch(query("build_costs", "known"), product, before)
    later = await connection.fetch(query("experiment", "costs"), product, before + timedelta(days=1), days[-1])
    costs = _NightCosts([KnownCost(*row) for row in known], [(row[0], KnownCost(*row[1:])) for row in later])
    return await asyncio.to_thread(replay_nights, history.counts(len(history.days)), days, costs)


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
        costs = Costs(tuple(self._known.values()), {}).estimates(counts.probes)
        read = [cost.bytes if cost else np.nan for cost in costs]
        seconds = [cost.seconds if cost and cost.seconds is not None else np.nan for cost in costs]
        return np.array(read, dtype=np.float64), np.array(seconds, dtype=np.float64)


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

    `caught` is the share of the requests, `ahead` by how much it is above that of the hot list. `bytes` are read and
    `cost` is paid in all these nights; people wait for `minutes` in all. Null where not every night had costs to know.
    """

    policy: str
    budget: int
    caught: float
    ahead: float
    bytes: int | None
    cost: float | None
    minutes: float | None


class Experiment(msgspec.Struct, frozen=True):
    """What each policy would have caught on the days from `first_day` to `last_day`, a night before each.

    The table has seen the log up to `log_position`; it was last filled at `filled_at`. Both are null, and there are no
    policies, before the first filling.
    """

    product: str
    first_day: date | None
    last_day: date | None
    nights: int
    requests: int
    log_position: int | None
    filled_at: datetime | None
    prices: Prices
    policies: list[PolicySince]


async def read_experiment(
    connection: Connection,
    product: str,
    first: date,
    last: date,
    budget: int | None,
    prices: Prices,
    code: str | None = None,
) -> Experiment:
    """Return what each policy would have caught and cost from one day to another, for a budget or for each."""
    code = code or code_of_policies()
    filling = await connection.fetchrow(query("experiment", "filling"), code, product)
    rows = [
        row
        for row in await connection.fetch(query("experiment", "summed"), code, product, first, last)
        if budget in (None, row["budget"])
    ]
    own = {row["budget"]: _share(row) for row in rows if row["policy"] == HOT_LIST}
    return Experiment(
        product,
        rows[0]["first_day"] if rows else None,
        rows[0]["last_day"] if rows else None,
        rows[0]["nights"] if rows else 0,
        rows[0]["requests"] if rows else 0,
        filling["log_position"] if filling else None,
        filling["filled_at"] if filling else None,
        prices,
        [_policy_since(row, own[row["budget"]], prices) for row in rows],
    )


def _share(row: asyncpg.Record) -> float:
    return row["caught"] / row["requests"] if row["requests"] else 0.0


def _policy_since(row: asyncpg.Record, own: float, prices: Prices) -> PolicySince:
    read, waited = row["bytes"], row["seconds"]
    return PolicySince(
        row["policy"],
        row["budget"],
        round(_share(row), 6),
        round(_share(row) - own, 6),
        None if read is None else int(read),
        None if read is None else round(float(prices.of_bytes(np.array(read))), DECIMALS),
        None if waited is None else round(waited / 60, 3),
    )
