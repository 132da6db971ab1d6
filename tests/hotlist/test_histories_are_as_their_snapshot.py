"""Days kept in memory are those of the reader's snapshot, whoever read before it, whatever was folded meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.support.hot_traffic import DAYS, FIRST, as_event, registration
from tests.support.servers import Client, JsonObject, connected, event, post
from usage_service.hotlist import history
from usage_service.hotlist.counts import LONG_AGO, DayCounts
from usage_service.hotlist.history import Histories
from usage_service.shared.postgres import Connection

LAST = FIRST + timedelta(days=DAYS - 1)
Drained = Callable[[], Awaitable[None]]


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    async with connected(url) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.execute("SELECT FROM projections")
        yield connection


async def read(histories: Histories, connection: Connection) -> dict[str, object]:
    """Return the counts of each probe that was requested or registered."""
    counts: DayCounts = (await histories.read(connection, "fog", FIRST, LAST)).counts(DAYS)
    columns = [
        (
            key.probe,
            int(counts.columns.registered[n]),
            *(m[:, n].tolist() for m in (counts.views, counts.people, counts.missing)),
        )
        for n, key in enumerate(counts.probes)
        if counts.views[:, n].any() or counts.columns.registered[n] != LONG_AGO
    ]
    return {str(name): rest for name, *rest in sorted(columns)}


@pytest.mark.parametrize("most_behind", [200_000, 10])
async def test_readers_of_different_snapshots_share_what_is_kept(
    client: Client, drained: Drained, database_url: str, monkeypatch: pytest.MonkeyPatch, most_behind: int
) -> None:
    monkeypatch.setattr(history, "MOST_BEHIND", most_behind)
    await post(client, *(as_event(request) for request in made(1, 80)))
    await drained()
    shared = Histories()
    async with snapshot(database_url) as old:
        await post(client, *(as_event(request) for request in made(2, 80)), registration(("fog", "probe_new"), FIRST))
        await drained()
        async with snapshot(database_url) as new:
            before, after = await read(Histories(), old), await read(Histories(), new)
            assert before != after
            for reader, expected in ((old, before), (new, after), (old, before), (old, before), (new, after)):
                assert await read(shared, reader) == expected


async def test_the_products_kept_are_few(client: Client, database_url: str) -> None:
    histories = Histories()
    async with snapshot(database_url) as connection:
        for number in range(20):
            await histories.read(connection, f"product_{number}", FIRST, LAST)
    assert len(histories._products) == history.MOST_PRODUCTS_KEPT


CHANGES: list[list[JsonObject]] = [
    [registration(("fog", "probe_1"), FIRST), registration(("fog", "probe_2"), FIRST)],
    [event("probe_built", probe="probe_1", visitor=None, channel="nightly")],
    [event("probe_retired", probe="probe_1", visitor=None, occurred_at="2026-08-04T00:00:00Z")],
    [registration(("fog", "probe_1"), FIRST + timedelta(days=9)), registration(("fenix", "other"), FIRST)],
    [registration(("fog", "probe_3"), FIRST), event("probe_retired", probe="probe_2", visitor=None)],
]


@pytest.mark.parametrize("most_behind", [200_000, 0])
async def test_a_catalogue_that_is_kept_is_as_one_read_anew(
    client: Client, drained: Drained, database_url: str, monkeypatch: pytest.MonkeyPatch, most_behind: int
) -> None:
    monkeypatch.setattr(history, "MOST_BEHIND", most_behind)
    await post(client, *(as_event(request) for request in made(1, 40)))
    shared, described = Histories(), list[object]()
    for events in CHANGES:
        await post(client, *events)
        await drained()
        async with snapshot(database_url) as connection:
            kept = await shared.read(connection, "fog", FIRST, LAST)
            told = [catalogued(one) for one in (kept, await Histories().read(connection, "fog", FIRST, LAST))]
        assert told[0] == told[1]
        described.append(kept.columns)
    assert (described[0] is described[1]) == (most_behind > 0)  # to be built changes nothing that is learned from


def catalogued(one: history.History) -> dict[str, object]:
    """Return what is known of each probe."""
    columns = one.columns
    known = columns.registered.tolist(), columns.listable.tolist(), columns.retired.tolist()
    return {key.probe: (*own, one.built.get(key)) for key, *own in zip(columns.probes, *known, strict=True)}
