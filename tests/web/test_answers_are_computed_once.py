"""An answer is read once for all who ask at a time, and cached within bounds; waiting costs the database nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.servers import Client, event, eventually, post
from tests.support.servers import Connection as Owner
from usage_service.log.following import GrowthSignal, wait_for_growth
from usage_service.projections import freshness
from usage_service.projections.freshness import PAUSE_SECONDS, Positions
from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool, open_pool
from usage_service.shared.tasks import Tasks
from usage_service.stats.popularity import PopularityCursor, PopularPage, Ranking, popular_probes
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answer_cache import OVERHEAD_BYTES, AnswerCache, SingleFlight
from usage_service.web.answers import Body
from usage_service.web.api import popularity

PATH = "/v1/popularity?since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"


class Gate:
    """Gate before the popularity query: it counts the calls, holds them until it is opened, and fails the first few."""

    def __init__(self, failures: int = 0) -> None:
        self.opened = asyncio.Event()
        self.failures = failures
        self.calls = 0

    async def popular_probes(
        self,
        connection: Connection,
        counts: ViewCounts,
        ranking: Ranking,
        limit: int,
        after: PopularityCursor | None = None,
    ) -> PopularPage:
        self.calls += 1
        number = self.calls
        await self.opened.wait()
        if number <= self.failures:
            raise RuntimeError("forced")
        return await popular_probes(connection, counts, ranking, limit, after)


async def asked_together(client: Client, gate: Gate, number: int) -> Counter[int]:
    """Return the statuses of requests that have all arrived before the gate opens."""
    asking = [asyncio.create_task(client.get(PATH)) for _ in range(number)]

    async def there() -> bool:
        return gate.calls > 0

    await eventually(there, "the first is at the gate")
    await client.get("/v1/hotlist")  # by when the others have come, too
    gate.opened.set()
    answers = await asyncio.gather(*asking)
    assert len({await answer.read() for answer in answers if answer.status == 200}) == 1
    return Counter(answer.status for answer in answers)


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_who_asks_at_the_same_time_shares_one_query(
    client: Client, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    gate = Gate(failures)
    monkeypatch.setattr(popularity, "popular_probes", gate.popular_probes)
    statuses = await asked_together(client, gate, 30)
    assert statuses == Counter({200: 30 - failures, 500: failures}) - Counter()
    assert gate.calls == failures + 1
    assert (await client.get(PATH)).status == 200
    assert gate.calls == failures + 1  # kept


async def test_what_is_kept_is_as_fresh_as_what_is_not(client: Client) -> None:
    for number in range(1, 5):
        [item] = await post(client, event("probe_viewed"))
        for _ in range(3):
            answer = await client.get(f"{PATH}&at_least={item['position']}&wait=20")
            assert (await answer.json())["probes"][0]["views"] == number


async def test_who_leaves_takes_nobody_along() -> None:
    single_flight: SingleFlight[str] = SingleFlight()
    landing = asyncio.Event()
    computed: list[str] = []

    async def compute(name: str) -> str:
        computed.append(name)
        await landing.wait()
        return name

    def ask(name: str, key: str = "key") -> asyncio.Task[str]:
        return asyncio.create_task(single_flight.share(key, lambda: compute(name)))

    first, second, third, other = ask("first"), ask("second"), ask("third"), ask("other", "another key")
    await asyncio.sleep(0)
    first.cancel()  # it computes: the second takes over
    third.cancel()  # it only waits
    await asyncio.wait([first, third])
    assert first.cancelled()
    assert third.cancelled()
    fourth = ask("fourth")
    await asyncio.sleep(0)
    landing.set()
    assert [await second, await fourth, await other] == ["second", "second", "other"]
    assert computed == ["first", "other", "second"]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3_000), st.booleans()), max_size=60),
    st.integers(0, 6_000),
)
def test_what_is_kept_has_a_bound(uses: list[tuple[str, int, bool]], most: int) -> None:
    cache = AnswerCache(most)
    model: dict[str, int] = {}  # the one used last at the end
    for key, size, writes in uses:
        if key in model:
            model[key] = model.pop(key)
        if writes:
            cache.put(key, Body(key.encode() * size, "text/plain"))
            if key not in model and size + OVERHEAD_BYTES <= most:
                model[key] = size + OVERHEAD_BYTES
            while sum(model.values()) > most:
                model.pop(next(iter(model)))
        body = cache.get(key)
        assert (body is None) == (key not in model)
        assert body is None or len(body.data) + OVERHEAD_BYTES == model[key]
        assert cache.bytes == sum(model.values()) <= most


class PositionQueries:
    """Counter of queries for positions, which does something while the first is under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.during_first: Callable[[], None] = lambda: None
        monkeypatch.setattr(freshness, "query", self.query)

    def query(self, file: str, name: str) -> str:
        self.number += 1
        if self.number == 1:
            self.during_first()
        return query(file, name)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> PositionQueries:
    return PositionQueries(monkeypatch)


@pytest.fixture
def folded() -> GrowthSignal:
    return GrowthSignal()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, role="usage_server", application="tests", size=2) as opened:
        yield opened


@pytest.fixture
async def positions(pool: Pool, folded: GrowthSignal) -> AsyncIterator[Positions]:
    async with Tasks(lambda: None) as tasks:
        made = Positions(pool, folded)
        tasks.start("positions", made.run())
        yield made


async def move(database: Owner, position: int, stage: str = "live") -> None:
    update = "UPDATE projections SET position = $1 WHERE name = 'popularity' AND stage = $2"
    await database.execute(update, position, stage)


@pytest.mark.parametrize("waiters", [1, 1_000])
async def test_any_number_may_wait_for_the_price_of_one(
    positions: Positions, folded: GrowthSignal, queries: PositionQueries, database: Owner, waiters: int
) -> None:
    began = time.monotonic()
    waiting = [asyncio.create_task(positions.reach(["popularity"], 5, 20)) for _ in range(waiters)]
    late = asyncio.create_task(positions.reach(["popularity"], 6, 0.3))
    while time.monotonic() < began + 0.3:
        folded.wake()
        await asyncio.sleep(0)
    assert not await late
    await move(database, 5)  # and nobody wakes us: another process folded
    assert all(await asyncio.gather(*waiting))
    assert 1 < queries.number <= (time.monotonic() - began) / PAUSE_SECONDS + 2
    before = queries.number
    assert await positions.reach(["popularity"], 4, 0)
    assert queries.number == before


async def test_who_comes_is_answered_by_a_new_query(
    positions: Positions, folded: GrowthSignal, database: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "projections.freshness.POLL_SECONDS",
        "projections.freshness.IDLE_SECONDS",
        "log.following.POLL_SECONDS",
    ):
        monkeypatch.setattr(f"usage_service.{name}", 60)
    folded.wake()
    assert not await positions.reach(["popularity"], 5, 0)
    await move(database, 5)
    assert await positions.reach(["popularity"], 5, 0)


async def test_who_comes_during_a_query_is_answered_by_the_next(positions: Positions, queries: PositionQueries) -> None:
    latecomers: list[asyncio.Task[bool]] = []

    def come() -> None:
        latecomers.append(asyncio.create_task(positions.reach(["popularity"], 5, 0)))

    queries.during_first = come
    assert not await positions.reach(["popularity"], 5, 0)
    assert not await latecomers[0]
    assert queries.number == 2


async def test_what_is_filled_beside_is_not_waited_for(positions: Positions, database: Owner) -> None:
    await database.execute("SELECT begin_filling('popularity', 'rebuild')")
    try:
        for stages in (("live", "rebuild"), ("rebuild", "live")):
            for stage in stages:
                await move(database, 3 if stage == "live" else 1_000, stage)
            assert not await positions.reach(["popularity"], 5, 0)
            assert positions.known(["popularity"]) == {"popularity": 3}
    finally:
        await database.execute("SELECT drop_projection('popularity', 'rebuild')")


async def test_who_waits_is_told_when_nobody_can_tell(positions: Positions, pool: Pool) -> None:
    await pool.close()
    with pytest.raises(ConnectionError):
        await positions.reach(["popularity"], 1, 20)


async def test_a_crowd_has_a_bound(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MOST_WAITING", 3)
    positions = Positions(pool, GrowthSignal())
    waiting = [asyncio.create_task(positions.reach(["popularity"], 1, 20)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not await positions.reach(["popularity"], 1, 20)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_growth_between_looking_and_waiting_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    tail = GrowthSignal()
    signal = tail.signal
    tail.wake()
    monkeypatch.setattr("usage_service.log.following.POLL_SECONDS", 600)
    async with asyncio.timeout(20):
        await wait_for_growth(signal, 600)
    began = time.monotonic()
    await wait_for_growth(tail.signal, 0.05)
    assert time.monotonic() - began >= 0.04
