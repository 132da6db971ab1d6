"""Builds without rows that end at the same time share a transaction, and each has its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from builder.completions import Completion, Completions
from builder.fencing import BuildCancelledElsewhereError, LeaseLostError
from builder.queue import BuildQueue, Claim, Stored
from tests.support.builders import put_in_catalogue, request
from tests.support.servers import Connection
from usage_service.shared.postgres import open_pool

PROBES = [f"probe_{number}" for number in range(5)]
TRANSACTIONS = "SELECT count(DISTINCT xmin::text) FROM builds WHERE state = 'no_data'"


@pytest.fixture
async def queue(database: Connection, database_url: str) -> AsyncIterator[BuildQueue]:
    await put_in_catalogue(database, *PROBES)
    for probe in PROBES:
        await request(database, probe)
    async with open_pool(database_url, role="usage_builder", application="tests", size=3) as pool:
        yield BuildQueue(pool, "b1", timedelta(seconds=15))


async def end_all(queue: BuildQueue, claims: Sequence[Claim]) -> list[Stored | BaseException]:
    return await asyncio.gather(*(queue.complete(claim, [], 100) for claim in claims), return_exceptions=True)


async def test_they_share_transactions_and_each_has_its_event(database: Connection, queue: BuildQueue) -> None:
    claims = await queue.claim(5)
    assert await end_all(queue, claims) == [Stored(0, looked=True)] * 5
    assert await database.fetchval(TRANSACTIONS) == 2  # the first one alone, the others meanwhile
    told = await database.fetch(
        "SELECT data ->> 'build_id' AS build_id, position FROM event_log WHERE type = 'build_found_no_data'"
    )
    at = await database.fetch("SELECT build_id::text, log_position AS position FROM builds")
    assert sorted(map(tuple, told)) == sorted(map(tuple, at))
    assert await database.fetchval("SELECT bytes FROM warehouse_days") == 500


async def test_the_next_one_is_claimed_in_the_transaction_that_ends_one(
    database: Connection, queue: BuildQueue
) -> None:
    """Builds that end make room for as many, in the order of the queue; one that a stale attempt ends makes none."""
    first, stale = await queue.claim(2)
    await database.execute("UPDATE builds SET attempt = 2 WHERE build_id = $1", stale.build_id)
    one, lost = await end_all(queue, [first, stale])
    assert isinstance(lost, LeaseLostError)
    assert isinstance(one, Stored)
    assert one.successor
    assert one.successor.probe == PROBES[2]
    states = await database.fetch("SELECT state, count(*) FROM builds GROUP BY state ORDER BY state")
    assert list(map(tuple, states)) == [("no_data", 1), ("queued", 2), ("running", 2)]
    written = "SELECT count(DISTINCT xmin::text) FROM builds WHERE probe = ANY ($1)"
    assert await database.fetchval(written, [first.probe, one.successor.probe]) == 1
    queue.close()
    assert await queue.complete(one.successor, [], 0) == Stored(0)  # nor has it looked
    assert await database.fetchval("SELECT count(*) FROM builds WHERE state = 'queued'") == 2


async def test_one_that_is_lost_or_cancelled_keeps_none_of_the_others(database: Connection, queue: BuildQueue) -> None:
    claims = await queue.claim(5)
    await database.execute("UPDATE builds SET attempt = 2 WHERE build_id = $1", claims[1].build_id)
    await database.execute("SELECT cancel_build($1, 'me')", claims[3].build_id)
    outcomes = await end_all(queue, claims)
    assert [outcomes[number] for number in (0, 2, 4)] == [Stored(0, looked=True)] * 3
    assert isinstance(outcomes[1], LeaseLostError)
    assert isinstance(outcomes[3], BuildCancelledElsewhereError)
    assert (await queue.complete(claims[0], [], 100)).rows == 0  # again, because the answer was lost
    states = await database.fetch("SELECT probe, state FROM builds ORDER BY probe")
    found = dict(map(tuple, states))
    assert found == dict.fromkeys(PROBES, "no_data") | {claims[1].probe: "running", claims[3].probe: "cancelled"}


async def test_who_is_cancelled_waits_for_no_group_that_waits_for_it(database: Connection, queue: BuildQueue) -> None:
    """A transaction with a build's row locked waits for the log's lock, never the other way round."""
    claims = await queue.claim(5)
    cancels = [database.execute("SELECT cancel_build($1, 'me')", claims[4].build_id)]
    outcomes, *_ = await asyncio.gather(end_all(queue, claims), *cancels)
    assert outcomes[:4] == [Stored(0, looked=True)] * 4
    assert await database.fetchval("SELECT bool_and(finished_at IS NOT NULL) FROM builds")


async def test_what_goes_wrong_is_told_to_all_who_waited_for_it() -> None:
    begun, groups = asyncio.Event(), list[list[UUID]]()

    async def fails_at_first(completions: Sequence[Completion]) -> dict[UUID, str]:
        groups.append([completion.build_id for completion in completions])
        begun.set()
        await asyncio.sleep(0)
        if len(groups) == 2:
            raise ConnectionError("made up")
        return dict.fromkeys(groups[-1], "ended")

    together = Completions(fails_at_first)
    ids = [uuid4() for _ in range(3)]
    ends = [asyncio.create_task(together.end(Completion(build_id, 1, 0))) for build_id in ids]
    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    assert outcomes[0] == "ended"
    assert [type(outcome) for outcome in outcomes[1:]] == [ConnectionError] * 2
    assert groups == [ids[:1], ids[1:]]
    assert await together.end(Completion(ids[0], 1, 0))  # the next one finds its way


async def test_who_is_stopped_leaves_the_others_an_answer() -> None:
    stopped = asyncio.Event()

    async def waits(completions: Sequence[Completion]) -> dict[UUID, str]:
        if not stopped.is_set():
            stopped.set()
            await asyncio.Event().wait()
        return {completion.build_id: "ended" for completion in completions}

    together = Completions(waits)
    first, second = (asyncio.create_task(together.end(Completion(uuid4(), 1, 0))) for _ in range(2))
    await stopped.wait()
    first.cancel()
    assert await second
    assert first.cancelled() or await asyncio.wait([first])
