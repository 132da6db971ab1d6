"""Answers that are made from the log say when events of it were dropped, or do without them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.conftest import SECRET, Start
from tests.hotlist.test_histories_are_as_their_snapshot import read as read_history
from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.stats.test_views_in_memory_are_as_their_snapshot import read as read_views
from tests.support.hot_traffic import as_event
from tests.support.servers import Client, Connection, event, post
from tests.support.traffic import fold_all, ignore
from usage_service.glam import usage as glam_usage
from usage_service.glam.usage import UsageFilter
from usage_service.hotlist.history import Histories
from usage_service.retention import PositionRange, drop_old
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings
from usage_service.stats.view_counts import ViewCounts

URL = "/api/v1/usage/"
POSTED, DROPPED = 8, 5


@pytest.fixture
async def client(own_database_url: str, start: Start) -> Client:
    """Return a service with a few views."""
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    await post(client, *(event("probe_viewed") for _ in range(POSTED)))
    return client


async def drop(database: Connection, url: str, directory: Path, upto: int = DROPPED) -> None:
    await fold_all(database)
    await drop_old(url, PositionRange(1, upto), directory, ignore)


async def listed(client: Client, **asked: str) -> list[int]:
    async with client.get(URL, params={"fields": "id"} | asked) as response:
        assert (response.status, response.headers["Log-Begin"]) == (200, str(DROPPED + 1)), await response.text()
        return [view["id"] for view in await response.json()]


async def test_glams_list_is_whole_or_says_so_and_its_counts_remember(
    client: Client, own_database: Connection, own_database_url: str, tmp_path: Path
) -> None:
    await drop(own_database, own_database_url, tmp_path)
    async with client.get(URL) as response:
        assert (response.status, response.headers["Log-Begin"]) == (410, str(DROPPED + 1))
        [error] = (await response.json())["errors"]
    assert error["parameter"] == "fromDate"
    whole = error["detail"].removeprefix("is before ")
    # All were recorded just now, and may be of a day ahead.
    assert date.fromisoformat(whole) - datetime.now(UTC).date() in (timedelta(days=1), timedelta(days=2))
    assert await listed(client, fromDate=whole) == []
    assert await listed(client, partial="true") == [6, 7, 8]
    async with client.get(URL, params={"fields": "action_type", "agg": "count"}) as response:
        assert await response.json() == [{"action_type": "PROBE_SEARCH", "total": POSTED}]


async def test_glams_list_breaks_off_when_views_are_dropped_meanwhile(
    client: Client,
    own_database: Connection,
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_in_spans = glam_usage.read_views
    dropped: list[bool] = []

    async def drop_after_the_first(pool: Pool, upto: int, only: UsageFilter) -> AsyncIterator[list[asyncpg.Record]]:
        async for views in read_in_spans(pool, upto, only):
            yield views
            if not dropped:
                dropped.append(True)
                await drop(own_database, own_database_url, tmp_path)

    monkeypatch.setattr("usage_service.glam.usage.RANGE_POSITIONS", 2)
    monkeypatch.setattr("usage_service.web.api.glam_usage.read_views", drop_after_the_first)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.get(URL) as response:
            await response.read()
    assert dropped


@pytest.mark.parametrize("upto", [60, 100])
async def test_what_is_kept_in_memory_misses_nothing_that_was_dropped_between_two_answers(
    client: Client, own_database: Connection, own_database_url: str, tmp_path: Path, upto: int
) -> None:
    """It is brought up to date from the log, which does not hold all that came in between any more."""
    histories, views = Histories(), ViewCounts()
    await post(client, *(as_event(request) for request in made(1, 40)))
    await fold_all(own_database)
    before = await read_history(histories, own_database), await read_views(views, own_database)
    await post(client, *(as_event(request) for request in made(2, 60)))
    await drop(own_database, own_database_url, tmp_path, upto)
    after = await read_history(histories, own_database), await read_views(views, own_database)
    assert before != after
    assert after == (await read_history(Histories(), own_database), await read_views(ViewCounts(), own_database))
