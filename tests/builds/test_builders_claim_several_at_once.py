"""A builder claims as many builds as it may run in one transaction, those that wait longest first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from builder.queue import BuildQueue
from tests.support.servers import Connection, registered
from tests.support.traffic import fold_all, records
from usage_service.ingest.appending import append
from usage_service.shared.postgres import open_pool

PROBES = [f"probe_{number}" for number in range(5)]


async def queued(database: Connection) -> None:
    """Queue five builds, of which the second and fourth are prefetched."""
    await append(database, records([registered(probe) for probe in PROBES]))
    await fold_all(database)
    for number, probe in enumerate(PROBES):
        await database.execute("SELECT request_build('fog', 'nightly', $1, 'tests', $2)", probe, number % 2 == 1)


@pytest.mark.parametrize("most", [1, 2, 4, 5, 9])
async def test_those_waited_for_longest_come_first(own_database: Connection, own_database_url: str, most: int) -> None:
    await queued(own_database)
    before = await own_database.fetchval("SELECT last_position()")
    async with open_pool(own_database_url, role="usage_builder", application="tests", size=1) as pool:
        queue = BuildQueue(pool, "b1", timedelta(seconds=15))
        first, rest = await queue.claim(most), await queue.claim(9)
    assert {claim.probe for claim in first} == set([*PROBES[::2], *PROBES[1::2]][:most])
    assert sorted(claim.probe for claim in first + rest) == PROBES
    started = await own_database.fetch(
        "SELECT probe, data ->> 'attempt' AS attempt FROM event_log WHERE position > $1 AND type = 'build_started'",
        before,
    )
    assert sorted((row["probe"], row["attempt"]) for row in started) == [(probe, "1") for probe in PROBES]


async def test_two_builders_never_hold_the_same(own_database: Connection, own_database_url: str) -> None:
    await queued(own_database)
    async with open_pool(own_database_url, role="usage_builder", application="tests", size=2) as pool:
        one, two = (BuildQueue(pool, name, timedelta(seconds=15)) for name in ("b1", "b2"))
        claimed = [await one.claim(2), await two.claim(2), await one.claim(2), await two.claim(2)]
    assert [len(claims) for claims in claimed] == [2, 2, 1, 0]
    assert sorted(claim.probe for claims in claimed for claim in claims) == PROBES


async def test_of_those_that_end_together_the_first_may_have_been_cancelled(own_database: Connection) -> None:
    """As builders of version 4 end them: the events of the others still say who built them."""
    await queued(own_database)
    builds = await own_database.fetch("SELECT * FROM claim_build('b1', $1, 2)", timedelta(seconds=15))
    ids, attempts = [row["build_id"] for row in builds], [row["attempt"] for row in builds]
    assert await own_database.fetchval("SELECT cancel_build($1, 'a person')", ids[0])
    ended = await own_database.fetch("SELECT complete_builds($1, $2, $3)", ids, attempts, [7, 7])
    assert [row[0] for row in ended] == [ids[1]]
    told = await own_database.fetch("SELECT source FROM event_log WHERE type = 'build_found_no_data'")
    assert [row["source"] for row in told] == ["b1"]
