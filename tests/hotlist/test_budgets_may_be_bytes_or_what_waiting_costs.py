"""A budget may be bytes, money or `auto`: plain Python chooses the same, and the list says why it ends."""

from __future__ import annotations

import csv
import random
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from math import exp
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.conftest import Start
from tests.support.hot_reference import Request
from tests.support.hot_traffic import FIRST, NAMES, as_event, ended_build, registration
from tests.support.servers import Client, Connection, JsonObject, event, post, rounds
from tests.support.traffic import fold_all, records
from usage_service.hotlist.budgets import Budget, NothingKnownError, Prices, choose, read_budget, weigh
from usage_service.hotlist.costs import Cost, CostReader, arrays_of
from usage_service.ingest.appending import append
from usage_service.shared.settings import MOST_BYTES, ServerSettings

Drained = Callable[[], Awaitable[None]]
LAST = FIRST + timedelta(days=20)
UNTIL = f"until={LAST + timedelta(days=1)}T00:00:00Z"
MB = 10**6
PRICES = Prices(tib=6.25, minute=1.0)
PROBES = ["p0", "p1", "p2", "p3", "p4", "p5"]

costs = st.builds(
    Cost, st.sampled_from([0, 1, MB, 50 * MB, 10**12]), st.sampled_from([0.0, 1.5, 90.0]), st.just("builds")
)
expected = st.sampled_from([0.0, 0.001, 0.5, 3.0, 40.0]) | st.floats(0, 100)
priced = st.builds(Prices, st.sampled_from([0.0, 6.25, 100.0]), st.sampled_from([0.0, 0.01, 1.0]))


@given(st.lists(st.tuples(expected, costs), max_size=6), st.integers(0, 2), st.integers(0, 200 * MB))
@settings(max_examples=rounds(50), deadline=None)
def test_bytes_are_spent_on_the_most_requests_a_byte(found: list[tuple[float, Cost]], pinned: int, most: int) -> None:
    pinned = min(pinned, len(found))
    requests, known = [one for one, _ in found], [cost for _, cost in found]
    worth = weigh(np.array(requests, dtype=np.float64), arrays_of(known), PRICES)
    choice = choose(worth, pinned, Budget("x", bytes=most), 0, PROBES)
    value = {
        place: requests[place] / known[place].bytes if known[place].bytes else float("inf")
        for place in range(len(found))
    }
    order = sorted(range(pinned, len(found)), key=lambda place: (-value[place] if requests[place] else 0.0, place))
    left, chosen = most - sum(cost.bytes for cost in known[:pinned]), list(range(pinned))
    for place in order:
        if known[place].bytes <= left:
            chosen.append(place)
            left -= known[place].bytes
    assert choice.places.tolist() == chosen
    assert sum(known[place].bytes for place in chosen[pinned:]) <= max(0, most)
    assert choice.ends


@given(st.lists(st.tuples(expected, costs), max_size=6), st.integers(0, 2), priced)
@settings(max_examples=rounds(50), deadline=None)
def test_auto_lists_what_costs_more_unbuilt(found: list[tuple[float, Cost]], pinned: int, prices: Prices) -> None:
    pinned = min(pinned, len(found))
    worth = weigh(np.array([one for one, _ in found], dtype=np.float64), arrays_of([cost for _, cost in found]), prices)
    choice = choose(worth, pinned, Budget("auto", auto=True), 0, PROBES)
    for place, (requests, cost) in enumerate(found):
        building = cost.bytes / 2**40 * prices.tib
        waiting = (cost.seconds or 0) / 60 * prices.minute
        chance = 1 - exp(-requests)
        close = chance * (building + waiting) == pytest.approx(building, rel=1e-9, abs=1e-15)
        assert close or (place in choice.places) == (place < pinned or chance * (building + waiting) > building)


def test_a_budget_is_read_as_it_is_written() -> None:
    read = {
        "7": (7, None, False), "10000": (10_000, None, False), "auto": (10_000, None, True),
        "1.5MB": (10_000, 1_500_000, False),
        "2GiB": (10_000, 2**31, False), "6.25USD": (10_000, 2**40, False), "0TB": (10_000, 0, False),
        "500gb": (10_000, 500 * 10**9, False), "2gib": (10_000, 2**31, False), "6.25usd": (10_000, 2**40, False),
    }  # fmt: skip
    for text, numbers in read.items():
        budget = read_budget(text, PRICES)
        assert (budget.probes, budget.bytes, budget.auto) == numbers, text
    for text in ("999999999TiB", "999999999USD"):
        assert read_budget(text, Prices(1e-300, 1.0)).bytes == MOST_BYTES  # within a bigint, whatever the price
    assert not read_budget("5USD", Prices(0.0, 1.0)).by_cost  # what costs nothing has no end


def test_nothing_is_chosen_by_costs_that_nobody_knows() -> None:
    requests = np.ones(1)
    with pytest.raises(NothingKnownError, match="how much it reads"):
        choose(weigh(requests, arrays_of([None]), PRICES), 0, Budget("1GB", bytes=10**9), 0, PROBES)
    with pytest.raises(NothingKnownError, match="how long it takes"):
        choose(weigh(requests, arrays_of([Cost(1, None, "builds")]), PRICES), 0, Budget("auto", auto=True), 0, PROBES)


async def filled(client: Client, drained: Drained) -> None:
    """Register the probes of fog and view each on every day, the first ones most."""
    names = [name for name in NAMES if name[0] == "fog"]
    await post(client, *(registration(name, FIRST - timedelta(days=300)) for name in names))
    requests = [
        Request(FIRST + timedelta(days=day), name, f"person {number}", True)
        for day in range(21)
        for place, name in enumerate(names)
        for number in range(max(1, 6 - 2 * place))
    ]
    await post(client, *map(as_event, requests))
    await drained()


async def built(database: Connection, drained: Drained, *ended: JsonObject) -> None:
    await append(database, records(list(ended)))
    await drained()


async def asked(client: Client, query: str) -> JsonObject:
    response = await client.get(f"/v1/hotlist?product=fog&{UNTIL}&{query}")
    body: JsonObject = await response.json()
    assert response.status == 200, body
    return body


async def test_a_list_tells_what_it_costs_and_saves(client: Client, database: Connection, drained: Drained) -> None:
    await filled(client, drained)
    first, second, *others = [probe["probe"] for probe in (await asked(client, "budget=100"))["probes"]]
    account = (await asked(client, "budget=1"))["account"]
    assert [account[name] for name in ("bytes", "bytes_basis", "cost", "minutes", "minutes_without")] == [None] * 5
    await built(
        database,
        drained,
        ended_build(first, LAST, 100 * MB, 30.0),
        ended_build(first, LAST, 60 * MB, 90.0, channel="beta"),
        ended_build(second, LAST - timedelta(days=3), 10 * MB),
    )
    whole = await asked(client, "budget=100")
    one = await asked(client, "budget=1")
    assert whole["probes"][0]["worth"]["bytes"] == 160 * MB
    assert whole["probes"][0]["worth"]["bytes_basis"] == "builds"
    # Nightly is its own; beta the median of its type, which is all that was ever built there.
    assert (whole["probes"][1]["worth"]["bytes"], whole["probes"][1]["worth"]["bytes_basis"]) == (70 * MB, "type")
    assert {probe["worth"]["bytes"] for probe in whole["probes"][2:]} == {round(median([100 * MB, 10 * MB])) + 60 * MB}
    account = whole["account"]
    assert account["bytes"] == sum(probe["worth"]["bytes"] for probe in whole["probes"])
    assert account["cost"] == pytest.approx(account["bytes"] / 2**40 * 6.25, abs=1e-6)
    assert account["minutes"] < one["account"]["minutes"] < one["account"]["minutes_without"]
    assert account["minutes_without"] == pytest.approx(one["account"]["minutes_without"])
    assert (account["ends"], one["account"]["ends"]) == (
        "no other probe has a score",
        "the budget is used up: 1 probes",
    )
    assert others
    text = await (await client.get(f"/v1/hotlist?product=fog&{UNTIL}&format=csv")).text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["bytes"] for row in rows] == [str(probe["worth"]["bytes"]) for probe in whole["probes"]]


async def test_costs_decide_where_they_are_asked_to(client: Client, database: Connection, drained: Drained) -> None:
    await filled(client, drained)
    names = [probe["probe"] for probe in (await asked(client, "budget=100"))["probes"]]
    dear, cheap = names[0], names[-1]
    await built(database, drained, *(
        ended_build(name, LAST, 10**12 if name == dear else MB, 60.0) for name in names
    ))  # fmt: skip
    few = await asked(client, f"budget={len(names) - 1}MB")
    assert {probe["probe"] for probe in few["probes"]} == set(names) - {dear}
    assert few["budget"] == f"{len(names) - 1}MB"
    assert few["account"]["bytes"] == (len(names) - 1) * MB
    assert few["account"]["ends"].startswith(
        f"the budget is used up: {dear} would read 1,000,000,000,000 bytes, and 0 of"
    )
    paid = await asked(client, "budget=0.00002USD")
    assert paid["probes"]
    assert 0 < paid["account"]["bytes"] <= 0.00002 / 6.25 * 2**40
    auto = await asked(client, "budget=auto")
    listed = {probe["probe"] for probe in auto["probes"]}
    assert cheap in listed
    for probe in (await asked(client, "budget=100"))["probes"]:
        worth = probe["worth"]
        assert (probe["probe"] in listed) == (worth["cost_unbuilt"] > worth["cost"])
    await client.put(f"/v1/hotlist/rules/fog/{dear}", json={"rule": "pinned"})
    assert (await asked(client, "budget=1MB"))["probes"][0]["probe"] == dear
    half = await asked(client, "budget=auto&coverage=0.3")
    assert len(half["probes"]) < len(names)


async def test_auto_names_the_next_probe_and_both_prices(
    start: Start, settings: ServerSettings, database: Connection, drained: Drained
) -> None:
    client = await start(replace(settings, tib_price=5.0, minute_price=0.5))
    await filled(client, drained)
    names = [probe["probe"] for probe in (await asked(client, "budget=100"))["probes"]]
    rarely = event("probe_viewed", probe=names[0], occurred_at=f"{FIRST + timedelta(days=10)}T10:00:00Z")
    await post(client, rarely | {"probe": "rare_ms"}, registration(("fog", "rare_ms"), FIRST - timedelta(days=90)))
    await built(database, drained, *(ended_build(name, LAST, 10**9, 120.0) for name in names))
    await built(database, drained, ended_build("rare_ms", LAST, 10**13, 120.0))
    auto = await asked(client, "budget=auto")
    assert [probe["probe"] for probe in auto["probes"]][-1:] != ["rare_ms"]
    assert auto["account"]["prices"] == {"tib": 5.0, "minute": 0.5}
    cost = 10**13 / 2**40 * 5.0
    assert auto["account"]["ends"].startswith(f"the next probe, rare_ms, costs {cost:.6f} USD to build, and ")


async def test_without_any_build_there_is_a_way_out(client: Client, drained: Drained) -> None:
    await filled(client, drained)
    for budget in ("5GB", "auto", "1USD"):
        response = await client.get(f"/v1/hotlist?product=fog&{UNTIL}&budget={budget}")
        [error] = (await response.json())["errors"]
        assert (response.status, error["parameter"]) == (422, "budget")
        assert "give a number of probes" in error["detail"]
        kept = await client.post("/v1/hotlist", json={"run": "a night", "product": "fog", "budget": budget})
        assert kept.status == 422


async def test_a_budget_of_another_form_is_refused(client: Client) -> None:
    for budget in ("0", "10001", "5", "5 GB", "GB", "-1GB", "1.2.3GB", "1e9USD", "automatic"):
        response = await client.get("/v1/hotlist", params={"budget": budget})
        assert response.status == (200 if budget == "5" else 422), budget


async def test_a_past_night_has_the_costs_that_were_known(
    client: Client, database: Connection, drained: Drained
) -> None:
    """To the last digit: later builds change nothing, nor does a rebuild from the log."""
    await filled(client, drained)
    names = [probe["probe"] for probe in (await asked(client, "budget=100"))["probes"]]
    await built(database, drained, *(ended_build(name, LAST - timedelta(days=2), 7 * MB, 33.3) for name in names[:2]))
    before = await asked(client, "budget=20MB")
    kept = await client.post(
        "/v1/hotlist", json={"run": "night", "product": "fog", "budget": "20MB", "until": UNTIL[6:]}
    )
    assert kept.status == 201
    later: list[date] = [LAST + timedelta(days=1), LAST + timedelta(days=9)]
    await built(database, drained, *(ended_build(name, day, 90 * MB, 5.0) for name in names for day in later))
    assert await asked(client, "budget=20MB") == before
    await database.execute("TRUNCATE build_costs; UPDATE projections SET position = 0 WHERE name = 'build_costs'")
    await drained()
    assert await asked(client, "budget=20MB") == before
    run = await (await client.get("/v1/hotlist/night")).json()
    assert run["probes"] == before["probes"]


async def test_costs_in_memory_are_those_of_the_database(own_database: Connection) -> None:
    """Whatever ends in between, also late: each answer reads only what has changed, and a rebuild reads all again."""
    dice, reader = random.Random(7), CostReader()
    for step in range(8):
        if step != 3:
            ended = [
                ended_build(
                    dice.choice(PROBES),
                    LAST + timedelta(days=dice.randrange(-3, 3)),
                    dice.randrange(99),
                    channel=channel,
                )
                for channel in ("nightly", "beta")
            ]
            await append(own_database, records([*ended, registration(("fog", dice.choice(PROBES)), FIRST)]))
        if step == 5:
            await own_database.execute("UPDATE projections SET generation = gen_random_uuid()")
        await fold_all(own_database)
        for product in (None, "fog"):
            kept = await reader.read(own_database, product, LAST)
            fresh = await CostReader().read(own_database, product, LAST)
            assert (kept.known, kept.types) == (fresh.known, fresh.types)
            assert await reader.read(own_database, product, LAST) is kept
