"""A list that takes seconds to learn for holds no snapshot open, and what an interrupted reading has read is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta

import pytest
from aiohttp import ClientResponse

from tests.hotlist.test_histories_are_as_their_snapshot import Drained, read
from tests.hotlist.test_histories_are_as_their_snapshot import snapshot as seen_by
from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.support.building import service
from tests.support.hot_traffic import DAYS, FIRST, as_event
from tests.support.servers import Client, eventually, post
from usage_service.hotlist import experiment, history, learning
from usage_service.hotlist.backtest.replaying import Backtest, BacktestError
from usage_service.hotlist.counts import DayCounts, counts_of
from usage_service.hotlist.history import Histories, _Day
from usage_service.probe_keys import ProbeKey
from usage_service.problems import Problem
from usage_service.projections.state import Projection, Snapshot, snapshot
from usage_service.shared.postgres import Connection, Pool
from usage_service.shared.progress import Report
from usage_service.web import answering
from usage_service.web.api import hotlist_backtest, hotlist_runs, prefetching
from usage_service.web.api.hotlist_backtest import BacktestQuestion


async def fill_the_experiment(client: Client) -> ClientResponse:
    assert await experiment.fill_nights(service(client).pool, "fog", FIRST + timedelta(days=DAYS), "another code")
    return await client.get("/v1/hotlist/experiment?product=fog")


ASKED: dict[str, Callable[[Client], Awaitable[ClientResponse]]] = {
    "list": lambda client: client.get("/v1/hotlist?product=fog"),
    "run": lambda client: client.post("/v1/hotlist", json={"run": "a_night", "product": "fog"}),
    "prefetch": lambda client: client.post(
        "/v1/builds/prefetch", json={"product": "fog", "channel": "nightly", "budget": 5}
    ),
    "experiment": fill_the_experiment,
    "backtest": lambda client: client.get("/v1/hotlist/backtest?product=fog"),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_nothing_is_learned_while_a_snapshot_is_open(
    client: Client, drained: Drained, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    await post(client, *(as_event(request) for request in made(3, 80)))
    await drained()
    open_ones, learned = list[Snapshot](), list[int]()

    @asynccontextmanager
    async def counted(pool: Pool, *projections: Projection) -> AsyncIterator[Snapshot]:
        async with snapshot(pool, *projections) as seen:
            open_ones.append(seen)
            yield seen
            open_ones.remove(seen)

    class Watched(learning.Night):
        def __init__(self, known: learning.Learned, day: int) -> None:
            learned.append(len(open_ones))
            super().__init__(known, day)

    for module in (answering, experiment, hotlist_runs, prefetching):
        monkeypatch.setattr(module, "snapshot", counted)
    monkeypatch.setattr(learning, "Night", Watched)
    answer = await ASKED[asked](client)
    assert answer.status < 300, await answer.text()
    assert learned
    assert not any(learned)


async def test_an_interrupted_reading_goes_on_where_it_was(
    client: Client, drained: Drained, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "DAYS_A_QUERY", 3)
    original, days_read = history._read_days, list[date]()

    async def interrupted(
        connection: Connection, product: str | None, days: Sequence[date], columns: dict[ProbeKey, int], since: int
    ) -> dict[date, _Day]:
        if len(days_read) == 6:
            raise TimeoutError
        days_read.extend(days)
        return await original(connection, product, days, columns, since)

    await post(client, *(as_event(request) for request in made(1, 80)))
    await drained()
    shared = Histories()
    async with seen_by(database_url) as old:
        monkeypatch.setattr(history, "_read_days", interrupted)
        with pytest.raises(TimeoutError):
            await read(shared, old)
    await post(client, *(as_event(request) for request in made(2, 80)))
    await drained()
    days_read.append(date.max)  # from here on nothing interrupts
    async with seen_by(database_url) as new:
        assert await read(shared, new) == await read(Histories(), new)
    assert len(days_read) == 1 + DAYS + DAYS  # once for each of the two, and the first six not again


async def test_a_backtest_reads_only_days_that_are_not_kept(
    client: Client, drained: Drained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(client, *(as_event(request) for request in made(1, 80)))
    await drained()
    original, days_read = history._read_days, list[date]()

    async def counted(
        connection: Connection, product: str | None, days: Sequence[date], columns: dict[ProbeKey, int], since: int
    ) -> dict[date, _Day]:
        days_read.extend(days)
        return await original(connection, product, days, columns, since)

    monkeypatch.setattr(history, "_read_days", counted)
    for budgets in ("1,2", "1,3"):
        answer = await client.get(f"/v1/hotlist/backtest?product=fog&budgets={budgets}")
        assert answer.status == 200, await answer.text()
    assert days_read
    assert len(days_read) == len(set(days_read))


async def test_a_replay_that_nobody_waits_for_ends_before_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = list[int](), threading.Event()

    def waiting(counts: DayCounts, nights: int, budgets: Sequence[int], report: Report) -> Backtest:
        begun.append(nights)
        assert gate.wait(20)
        raise BacktestError("it is over")

    async def is_begun() -> bool:
        return bool(begun)

    monkeypatch.setattr(hotlist_backtest, "backtest", waiting)
    counts, histories = counts_of([], {}, FIRST, 1), Histories()
    asked = [BacktestQuestion("fog", nights, (1,), FIRST, "json", histories) for nights in (1, 2)]
    first = asyncio.create_task(asked[0]._replayed(counts))
    await eventually(is_begun, "the first replay is under way")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(asked[1]._replayed(counts))
    for _ in range(100):
        await asyncio.sleep(0)
    assert histories.replaying.locked()
    assert begun == [1]
    gate.set()
    with pytest.raises(Problem, match="it is over"):
        await second
    assert begun == [1, 2]
