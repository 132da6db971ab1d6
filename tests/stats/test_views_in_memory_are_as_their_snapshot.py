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
from usage_service.stats.view_counts import ViewCounts
from usage_service.windows import Days

WINDOWS = [
    Days(FIRST + timedelta(days=since), FIRST + timedelta(days=until)) for since, until in ((0, DAYS), (3, 9), (8, 40))
]


async def read(counts: ViewCounts, connection: Connection) -> list[dict[object, list[int]]]:
    """Return the counts of each column that was viewed in each window, in whatever order the columns are."""
    return [
        {
            cell: views.counts[:, column].tolist()
            for column, cell in enumerate(views.columns.cells)
            if views.counts[:, column].any()
        }
        for views in await counts.read(connection, WINDOWS)
    ]


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
