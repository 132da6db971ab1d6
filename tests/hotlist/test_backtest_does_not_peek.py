"""Lists of past nights are made of the past alone, whatever the future brings; what they catch is counted right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hot_reference import Name, Reference, Request, caught
from tests.support.hot_traffic import DAYS, FIRST, REGISTERED, REQUESTS, counts, in_batches
from tests.support.servers import Client, post, rounds, shared_file
from usage_service.hotlist.backtest.chart import chart
from usage_service.hotlist.backtest.files import counts_of_events, read_counts
from usage_service.hotlist.backtest.policies import CLAIRVOYANT, Past, new_policies
from usage_service.hotlist.backtest.replaying import Backtest, BacktestError, backtest, nights_of
from usage_service.hotlist.backtest.sample_traffic import Shape, generate_traffic

TRAFFIC = shared_file("web_traffic.ndjson.gz")
NIGHT = 12
POLICIES = sorted(set(new_policies()) - {CLAIRVOYANT})
SHAPE = Shape(days=130, probes=600, people=150, views=4, teams=8)


def unreported(done: int) -> None:
    """Ignore the progress."""
    assert done


def names(requests: list[Request], known: dict[Name, date], policy: str, nights: list[int]) -> list[list[Name]]:
    history = counts(requests, known)
    chosen = new_policies()[policy]
    pasts = [Past(history, row, night) for row, night in zip(nights, nights_of(history, nights), strict=True)]
    lists = [chosen(past, [room])[0][:room] for past in pasts for room in (3, 8)]
    return [[tuple(history.probes[column]) for column in one] for one in lists]


@given(REQUESTS, REQUESTS, REQUESTS, REGISTERED, REGISTERED, st.sampled_from(POLICIES))
@settings(max_examples=rounds(10), deadline=None)
def test_the_future_changes_no_list_of_the_past(
    past: list[Request],
    future: list[Request],
    other: list[Request],
    known: dict[Name, date],
    later: dict[Name, date],
    policy: str,
) -> None:
    night = FIRST + timedelta(days=NIGHT)
    before = [one for one in past if one.day < night]
    registered = {name: day for name, day in known.items() if day < night}
    pasts = []
    for more in (future, other, []):
        after = [one for one in more if one.day >= night]
        to_come = {name: night + timedelta(days=3) for name in later if name not in registered} if more else {}
        pasts.append(names(before + after, registered | to_come, policy, list(range(1, NIGHT + 1))))
    assert pasts[0] == pasts[1] == pasts[2]


@given(REQUESTS, REGISTERED, st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
@settings(max_examples=rounds(3), deadline=None)
def test_what_is_caught_is_what_plain_python_counts(
    requests: list[Request], known: dict[Name, date], budgets: list[int]
) -> None:
    budgets.sort()
    days = [FIRST + timedelta(days=number) for number in range(1, DAYS)]
    total = sum(one.day in days for one in requests)
    if not total:
        with pytest.raises(BacktestError):
            backtest(counts(requests, known), 90, budgets, unreported)
        return
    found = backtest(counts(requests, known), 90, budgets, unreported)
    reference = Reference(requests, known)
    by_name = {one.policy: one for one in found.policies}
    assert (found.requests, found.nights, found.first_day) == (total, DAYS - 1, days[0])
    for number, budget in enumerate(budgets):
        own = best = 0
        for day in days:
            own += caught(requests, day, [name for name, _ in reference.listed(day)[:budget]])
            best += sum(sorted(caught(requests, day, [name]) for name in {one.name for one in requests})[-budget:])
        assert by_name["hot_list"].caught[number] == pytest.approx(own / total)
        assert by_name[CLAIRVOYANT].caught[number] == pytest.approx(best / total)
        assert all(one.caught[number] <= by_name[CLAIRVOYANT].caught[number] + 1e-9 for one in found.policies)


@pytest.fixture(scope="module")
def made() -> Backtest:
    return backtest(generate_traffic(SHAPE, date(2026, 1, 5)).counts(), 40, [25, 50, 100, 200, 400], unreported)


def test_the_hot_list_wins_on_made_traffic(made: Backtest) -> None:
    shares = {one.policy: sum(one.caught) for one in made.policies}
    best = shares.pop(CLAIRVOYANT)
    assert max(shares, key=lambda name: shares[name]) == "hot_list"
    assert shares["hot_list"] < best
    glam = next(one for one in made.policies if one.policy == "viewed_in_90d")
    own = next(one for one in made.policies if one.policy == "hot_list")
    assert own.caught_by_all >= glam.caught_by_all - 0.01


def test_what_it_expects_to_catch_it_catches(made: Backtest) -> None:
    own = next(one for one in made.policies if one.policy == "hot_list")
    for expected, share in zip(made.expected, own.caught, strict=True):
        assert expected == pytest.approx(share, abs=0.06)


def test_made_traffic_is_the_same_for_a_seed_and_another_for_another() -> None:
    shape = msgspec.structs.replace(SHAPE, days=10)
    one, same = (list(generate_traffic(shape, FIRST).events()) for _ in range(2))
    assert one == same
    assert list(generate_traffic(shape, FIRST, seed=1).events()) != one
    counted, read = (
        generate_traffic(shape, FIRST).counts(),
        counts_of_events({"event_id": n} | e for n, e in enumerate(one)),
    )
    assert (counted.views.sum(), counted.people.sum(), counted.missing.sum()) == (
        read.views.sum(),
        read.people.sum(),
        read.missing.sum(),
    )


def test_the_chart_has_a_line_a_policy(made: Backtest) -> None:
    root = ElementTree.fromstring(chart(made))
    lines = [node for node in root.iter() if node.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [len(made.budgets)] * len(made.policies)
    words = " ".join(node.text or "" for node in root.iter() if node.tag.endswith("text"))
    assert all(one.policy in words for one in made.policies)


@pytest.mark.skipif(not TRAFFIC.exists(), reason="the real traffic is not here")
def test_the_hot_list_is_no_worse_than_any_other_on_real_traffic() -> None:
    found = backtest(read_counts([TRAFFIC], None), 90, [25, 50, 100, 200], unreported)
    shares = {one.policy: sum(one.caught) for one in found.policies if one.policy != CLAIRVOYANT}
    assert shares["hot_list"] >= max(shares.values()) - 0.005
    assert found.nights == 3


async def test_the_service_replays_what_it_has(client: Client, drained: Callable[[], Awaitable[None]]) -> None:
    shape = msgspec.structs.replace(SHAPE, days=12, people=40, probes=60)
    traffic = generate_traffic(shape, FIRST)
    events = [
        event | {"event_id": f"00000000-0000-4000-8000-{number:012}"} for number, event in enumerate(traffic.events())
    ]
    for batch in in_batches(events):
        await post(client, *batch)
    await drained()
    until = f"until={FIRST + timedelta(days=12)}T00:00:00Z"
    answer = await client.get(f"/v1/hotlist/backtest?product=fog&nights=5&budgets=40,10&{until}")
    assert answer.status == 200, await answer.text()
    found = msgspec.json.decode(await answer.read(), type=Backtest)
    expected = backtest(traffic.counts(), 5, [10, 40], unreported)
    assert found.budgets == [10, 40]
    assert [one.policy for one in found.policies] == list(new_policies())
    for one, other in zip(found.policies, expected.policies, strict=True):
        assert one.caught == pytest.approx(other.caught)
    again = await client.get(f"/v1/hotlist/backtest?product=fog&nights=5&budgets=10,40&{until}&format=svg")
    assert again.content_type == "image/svg+xml"
    assert ElementTree.fromstring(await again.read()) is not None
