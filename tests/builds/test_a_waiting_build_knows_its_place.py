"""A build that waits knows how many come first, how long they and it take, and which builders there are."""

from __future__ import annotations

from datetime import timedelta

from tests.support.building import asked, claim, complete
from tests.support.servers import Client, Connection, drained_projections, post, registered
from usage_service.builds.listing import BuilderState, QueuePlace, builder_state, queue_place
from usage_service.web.pages.presentation.builds import Waiting

PROBES = ("first_ms", "second_ms", "third_ms")


async def test_those_that_are_claimed_first_are_counted(client: Client, database: Connection) -> None:
    await post(client, *map(registered, PROBES))
    await drained_projections(database)
    builds = [await asked(client, probe) for probe in PROBES]
    assert [await queue_place(database, build) for build in builds] == [QueuePlace(n, None, None) for n in range(3)]
    await database.execute("UPDATE builds SET prefetched = true WHERE build_id = $1", builds[0])
    assert [(await queue_place(database, build)).ahead for build in builds] == [2, 0, 1]
    attempt = await claim(database, builds[1])
    await database.execute("UPDATE builds SET started_at = now() - interval '40 s' WHERE build_id = $1", builds[1])
    await complete(database, builds[1], attempt)
    place = await queue_place(database, builds[2])
    assert place.ahead == 0
    assert place.typical_seconds == place.own_seconds
    assert place.own_seconds is not None
    assert place.own_seconds >= 40
    await database.execute("""
        INSERT INTO build_costs (product, channel, probe, day, ended_at, bytes, seconds)
        VALUES ('fog', 'nightly', 'third_ms', '2026-11-01', '2026-11-01T10:00:00Z', 1, 700)
    """)
    assert (await queue_place(database, builds[2])).own_seconds == 700


async def test_builders_are_seen_for_a_day(database: Connection) -> None:
    assert await builder_state(database) == (0, None)
    await database.execute("INSERT INTO builders VALUES ('gone', now() - interval '5 minutes')")
    alive, seconds = await builder_state(database)
    assert alive == 0
    assert seconds is not None
    assert seconds >= timedelta(minutes=5).total_seconds()


def test_the_time_is_told_when_builders_are_there_and_builds_have_told() -> None:
    assert Waiting(QueuePlace(4, 30.0, 50.0), BuilderState(2, 1.0)).seconds == 110
    assert Waiting(QueuePlace(4, 30.0, 50.0), BuilderState(0, 90.0)).seconds is None
    assert Waiting(QueuePlace(4, None, None), BuilderState(2, 1.0)).seconds is None
