"""Views kept in memory are those of the reader's snapshot, whoever read before it, whatever was folded meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from tests.hotlist.test_histories_are_as_their_snapshot import snapshot
from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.support.hot_traffic import DAYS, FIRST, as_event
from tests.support.servers import Client, post
from usage_service.shared.postgres import Connection
from usage_service.stats import view_counts
from usage_service.stats.view_counts import FEW, ViewCounts, Views
from usage_service.windows import Days

WINDOWS = [
    Days(FIRST + timedelta(days=since), FIRST + timedelta(days=until)) for since, until in ((0, DAYS), (3, 9), (8, 40))
]


async def read(counts: ViewCounts, connection: Connection) -> list[dict[object, list[int]]]:
    """Return the counts of each column that was viewed in each window, in whatever order the columns are."""
    return [columns_viewed(views) for views in await counts.read(connection, WINDOWS)]


def columns_viewed(views: Views) -> dict[object, list[int]]:
    every = views.columns.chosen(None, None, bots=True)
    counted = views.counts(every)
    for few in (every[:: FEW + 1], every[-1:], every[:0]):
        assert views.counts(few).tolist() == counted[:, few].tolist()
    return {
        cell: counted[:, place].tolist() for place, cell in enumerate(views.columns.cells) if counted[:, place].any()
    }


@pytest.mark.parametrize("most_behind", [200_000, 10])
@pytest.mark.parametrize("most_kept", [8_000_000, 40])
async def test_readers_of_different_snapshots_share_what_is_kept(
    client: Client,
    drained: Callable[[], Awaitable[None]],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    most_behind: int,
    most_kept: int,
) -> None:
    monkeypatch.setattr(view_counts, "MOST_BEHIND", most_behind)
    monkeypatch.setattr(view_counts, "MOST_KEPT", most_kept)
    await post(client, *(as_event(request) for request in made(1, 80)))
    await drained()
    shared = ViewCounts()
    async with snapshot(database_url) as old:
        before = await read(ViewCounts(), old)
        assert await read(shared, old) == before
        await post(client, *(as_event(request) for request in made(2, 80)))
        await drained()
        async with snapshot(database_url) as new:
            after = await read(ViewCounts(), new)
            assert before != after
            for reader, expected in ((new, after), (old, before), (old, before), (new, after)):
                assert await read(shared, reader) == expected


async def test_what_was_read_ahead_is_not_read_again(
    client: Client, drained: Callable[[], Awaitable[None]], database_url: str, database: Connection
) -> None:
    """Rows that no fold has changed are not looked at."""
    await post(client, *(as_event(request) for request in made(3, 80)))
    await drained()
    counts = ViewCounts()
    async with snapshot(database_url) as reader:
        await counts.read_ahead(reader)
    last = await database.fetchval("SELECT max(first_day) FROM popularity_views WHERE days = 1")
    await database.execute("UPDATE popularity_views SET found = found + 1000")
    month = [Days(last - timedelta(days=27), last)]
    async with snapshot(database_url) as reader:
        [ahead], [anew] = await counts.read(reader, month), await ViewCounts().read(reader, month)
    every = ahead.columns.chosen(None, None, bots=True)
    assert 0 < ahead.counts(every).sum() < 1000 < anew.counts(every).sum()
