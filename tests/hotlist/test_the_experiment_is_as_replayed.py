"""The standing experiment is what the backtest replays, however and whenever the log grew; costs are added up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from uuid import uuid4

import asyncpg
import pytest

from tests.support.building import service
from tests.support.hot_reference import Name, Request
from tests.support.hot_traffic import FIRST, NAMES, as_event, ended_build, in_batches, registration
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post, registered, rounds
from tests.support.traffic import records
from usage_service.hotlist import experiment
from usage_service.hotlist.backtest.replaying import BUDGETS, backtest
from usage_service.hotlist.experiment import fill_nights
from usage_service.hotlist.history import Histories
from usage_service.ingest.appending import append
from usage_service.shared.postgres import Pool

Drained = Callable[[], Awaitable[None]]
DAYS = 36  # so that a month ends among them
TODAY = FIRST + timedelta(days=DAYS)
FOG = [name for name in NAMES if name[0] == "fog"]
ROWS = (
    "SELECT day, policy, budget, requests, caught, bytes, seconds FROM policy_nights WHERE code = $1 ORDER BY 1, 2, 3"
)
FREE = "UPDATE policy_fillings SET claimed_until = now()"


def some_requests(dice: random.Random, number: int, days: Sequence[int]) -> list[Request]:
    return [
        Request(
            FIRST + timedelta(days=dice.choice(days)),
            FOG[min(dice.randrange(len(FOG)), dice.randrange(len(FOG)))],
            dice.choice(["ann", "bob", "cid", None]),
            dice.random() < 0.8,
        )
        for _ in range(number)
    ]


async def recorded(client: Client, requests: Sequence[Request]) -> None:
    for batch in in_batches([as_event(request) for request in requests]):
        await post(client, *batch)


async def filled(client: Client, database: Connection, today: date, code: str) -> int:
    await database.execute(FREE)
    return await fill_nights(service(client).pool, "fog", today, code)


async def rows(database: Connection, code: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await database.fetch(ROWS, code)]


async def catalogue_changes(client: Client, database: Connection, step: int) -> None:
    """Hide a probe, retire one, give one another type: each changes past nights, too."""
    product, probe = FOG[step]
    at = f"{FIRST + timedelta(days=DAYS - 1)}T0{step}:00:00Z"
    if step == 0:
        await database.execute("SELECT set_hidden_probes($1, $2, true, '')", probe, product)
    elif step == 1:
        await post(client, event("probe_retired", product=product, probe=probe, visitor=None, occurred_at=at))
    else:
        await post(client, registered(probe, "counter", occurred_at=at))


async def test_however_the_log_grew_the_nights_are_those_of_one_filling(
    client: Client, database: Connection, drained: Drained
) -> None:
    """Late events, late registrations and builds change the nights that they concern; the rest stays."""
    for seed in range(rounds(1)):
        dice, code = random.Random(seed), f"step by step {seed}"
        for step in range(3):
            until = (step + 1) * DAYS // 3
            # Of the days until then, most of them new; a few late.
            days = [*range(step * DAYS // 3, until)] * 3 + [*range(until)]
            await recorded(client, some_requests(dice, 60, days))
            late = FIRST + timedelta(days=dice.randrange(-50, until))
            await post(client, registration(dice.choice(FOG), late))
            built = [
                ended_build(
                    dice.choice(FOG)[1], FIRST + timedelta(days=dice.randrange(until)), dice.randrange(9_000), 2.5
                )
                for _ in range(3)
            ]
            await append(database, records(built))
            await catalogue_changes(client, database, step)
            await drained()
            await filled(client, database, FIRST + timedelta(days=until), code)
        assert await filled(client, database, TODAY, f"at once {seed}") == DAYS - 1
        kept = await rows(database, code)
        assert kept == await rows(database, f"at once {seed}")
        assert any(row[5] for row in kept)
        assert await filled(client, database, TODAY, code) == 0


async def test_the_shares_are_those_of_the_backtest(client: Client, database: Connection, drained: Drained) -> None:
    await recorded(client, some_requests(random.Random(5), 200, range(12)))
    await drained()
    today = FIRST + timedelta(days=12)
    await filled(client, database, today, "one")
    async with service(client).pool.acquire() as connection, connection.transaction():
        first = await connection.fetchval("SELECT min(first_day) FROM popularity_views WHERE days = 1")
        history = await Histories().read(connection, "fog", first, today - timedelta(days=1))
    found = backtest(history.counts(DAYS), DAYS, BUDGETS, lambda _done: None)
    expected = {
        (one.policy, budget): share for one in found.policies for budget, share in zip(BUDGETS, one.caught, strict=True)
    }
    summed = await database.fetch("""
        SELECT policy, budget, sum(caught)::float8 / sum(requests) AS share FROM policy_nights GROUP BY policy, budget
    """)
    assert {(row["policy"], row["budget"]): row["share"] for row in summed} == pytest.approx(expected)


def most_viewed(requests: Sequence[Request], night: date, days: int, budget: int) -> list[Name]:
    counts: dict[Name, int] = {}
    for one in requests:
        if night - timedelta(days=days) <= one.day < night:
            counts[one.name] = counts.get(one.name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))[:budget]


async def test_what_was_caught_read_and_waited_for_is_that_of_plain_python(
    client: Client, database: Connection, drained: Drained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_service.hotlist.experiment.BUDGETS", (1, 3))
    requests = some_requests(random.Random(8), 200, range(20))
    await recorded(client, requests)
    read = {name: 1_000 * (place + 1) for place, name in enumerate(FOG)}
    await append(database, records([ended_build(name[1], FIRST, read[name], 60.0) for name in FOG]))
    await drained()
    await filled(client, database, FIRST + timedelta(days=20), "plain")
    kept = {(row[0], row[2]): row[3:] for row in await rows(database, "plain") if row[1] == "most_viewed_7d"}
    begin = min(one.day for one in requests)
    assert len(kept) == 2 * (19 - (begin - FIRST).days)
    for (day, budget), numbers in kept.items():
        assert isinstance(day, date)
        assert isinstance(budget, int)
        asked = [one.name for one in requests if one.day == day]
        chosen = most_viewed(requests, day, 7, budget)
        known = day > FIRST + timedelta(days=0)
        assert numbers == (
            len(asked),
            sum(name in chosen for name in asked),
            sum(read[name] for name in chosen) if known else None,
            60.0 * len(set(asked) - set(chosen)) if known else None,
        )


async def test_of_two_servers_one_fills(client: Client, database: Connection, drained: Drained) -> None:
    await recorded(client, some_requests(random.Random(3), 50, range(9)))
    await drained()
    pool = service(client).pool
    assert await fill_nights(pool, "fog", FIRST + timedelta(days=5), "c") > 0
    assert await fill_nights(pool, "fog", TODAY, "c") == 0
    assert await fill_nights(pool, "fenix", TODAY, "c") == 0
    await database.execute("UPDATE policy_fillings SET claimed_until = now() - interval '2 days'")
    await fill_nights(pool, "fog", TODAY, "newer code")
    assert not await rows(database, "c")
    assert await rows(database, "newer code")


async def test_nights_of_a_product_that_cannot_be_filled_hold_up_no_other(
    client: Client, database: Connection, drained: Drained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = event("probe_viewed", occurred_at=f"{FIRST}T10:00:00Z")
    await post(client, first, first | {"event_id": str(uuid4()), "product": "fenix"})
    await drained()
    products = list[str]()

    async def fails_at_first(pool: Pool, product: str, today: date) -> int:
        products.append(product)
        if len(products) == 1:
            raise asyncpg.DataError("out of range")
        return await fill_nights(pool, product, today)

    monkeypatch.setattr(experiment, "SOON_SECONDS", 0.0)
    monkeypatch.setattr(experiment, "fill_nights", fails_at_first)
    keeping = asyncio.create_task(experiment.keep_experiment(service(client).pool))

    async def both_filled() -> bool:
        return bool(await database.fetchval("SELECT count(DISTINCT product) = 2 FROM policy_nights"))

    await eventually(both_filled, "the nights of both products are filled")
    keeping.cancel()
    await asyncio.wait({keeping})
    assert products[:3] == ["fenix", "fog", "fenix"], "the product after it in the same round"


async def asked(client: Client, query: str) -> JsonObject:
    response = await client.get(f"/v1/hotlist/experiment?product=fog&{query}")
    body: JsonObject = await response.json()
    assert response.status == 200, body
    assert int(response.headers["Log-Position"]) == (body["log_position"] or 0)
    return body


async def test_nights_since_any_day_are_added_up(client: Client, database: Connection, drained: Drained) -> None:
    empty = await asked(client, "")
    assert (empty["nights"], empty["policies"], empty["filled_at"]) == (0, [], None)
    await recorded(client, some_requests(random.Random(4), 200, range(20)))
    await append(database, records([ended_build(FOG[0][1], FIRST + timedelta(days=9), 2**40, 60.0)]))
    await drained()
    await database.execute(FREE)
    await fill_nights(service(client).pool, "fog", FIRST + timedelta(days=20))
    since = FIRST + timedelta(days=12)
    found = await asked(client, f"since={since}&until={since + timedelta(days=5)}&budget=25")
    assert (found["nights"], found["first_day"], found["last_day"]) == (5, str(since), str(since + timedelta(days=4)))
    summed = await database.fetchrow(
        """
        SELECT sum(requests)::integer AS requests, sum(caught)::float8 / sum(requests) AS caught,
               sum(bytes)::float8 AS bytes, sum(seconds) / 60 AS minutes
        FROM policy_nights WHERE policy = 'hot_list' AND budget = 25 AND day >= $1 AND day < $1 + 5
        """,
        since,
    )
    assert summed is not None
    policies = {policy["policy"]: policy for policy in found["policies"]}
    own = policies["hot_list"]
    assert (found["requests"], own["hot_list_ahead"], own["bytes"]) == (summed["requests"], None, int(summed["bytes"]))
    assert found["priced_nights"] == 5
    assert own["caught"] == pytest.approx(summed["caught"], abs=1e-6)
    assert own["cost"] == pytest.approx(summed["bytes"] / 2**40 * 6.25, abs=1e-6)
    assert own["minutes"] == pytest.approx(summed["minutes"], abs=1e-3)
    for policy in policies.values():
        if ahead := policy["hot_list_ahead"]:
            assert ahead["points"] == pytest.approx(100 * (own["caught"] - policy["caught"]), abs=2e-3)
            assert ahead["low"] <= ahead["points"] <= ahead["high"]
    assert {name for name, policy in policies.items() if not policy["hot_list_ahead"]} == {"hot_list", "clairvoyant"}
    whole = await asked(client, "")
    assert whole["priced_nights"] == 10 < whole["nights"]
    assert len(whole["policies"]) == len(policies) * len(BUDGETS)
    response = await client.get("/v1/hotlist/experiment?product=fog&budget=26")
    assert (response.status, (await response.json())["errors"][0]["parameter"]) == (422, "budget")
    run = await client.post("/v1/hotlist", json={"run": "experiment"})
    assert run.status == 422
