"""A build's last event says what it read and how long its attempt took; costs are folded from these events alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

from tests.support.building import LEASE
from tests.support.projected import projected_build_costs
from tests.support.servers import Connection
from tests.support.traffic import fold_all, ignore, records
from usage_service.ingest.appending import append
from usage_service.projections.rebuilding import verify

REGISTERED = {"type": "probe_registered", "product": "fog", "probe": "gc_ms", "data": {"type": "counter"}}
ENDED = "SELECT data FROM event_log WHERE type IN ('build_succeeded', 'build_found_no_data') ORDER BY position"


async def at(database: Connection, moment: str) -> None:
    await database.execute("SELECT set_config('usage.now', $1, false)", f"2026-11-21T{moment}Z")


async def registered(database: Connection) -> None:
    event = REGISTERED | {"event_id": str(UUID(int=1)), "occurred_at": "2026-11-20T12:00:00Z"}
    await append(database, records([event]))
    await fold_all(database)


async def requested(database: Connection) -> UUID:
    build: UUID = await database.fetchval("SELECT build_id FROM request_build('fog', 'nightly', 'gc_ms')")
    return build


async def claimed(database: Connection) -> int:
    attempt: int = await database.fetchval("SELECT attempt FROM claim_build('a worker', $1)", LEASE)
    return attempt


async def test_the_time_is_that_of_the_attempt_that_ended_it(own_database: Connection) -> None:
    """Neither the wait in the queue nor what was done in vain is in it."""
    await registered(own_database)
    await at(own_database, "10:00:00")
    build = await requested(own_database)
    await at(own_database, "10:05:00")
    attempt = await claimed(own_database)
    await own_database.execute("SELECT fail_build($1, $2, 'invalid', 'no', interval '0')", build, attempt)
    await at(own_database, "11:00:00")
    attempt = await claimed(own_database)
    await at(own_database, "11:01:12.3456")
    await own_database.execute("SELECT complete_build($1, $2, 12345)", build, attempt)
    [ended] = await own_database.fetch(ENDED)
    assert ended["data"] == {"build_id": str(build), "attempt": 2, "bytes": 12345, "rows": 0, "seconds": 72.346}
    await fold_all(own_database)
    ended_at = datetime(2026, 11, 21, 11, 1, 12, 345600, UTC)
    costs = {("fog", "nightly", "gc_ms", date(2026, 11, 21)): (ended_at, 12345, 72.346)}
    assert await projected_build_costs(own_database) == costs
    await own_database.execute("TRUNCATE probe_rows, builds CASCADE")
    assert (await verify(own_database, "build_costs", ignore)).equal
    assert await projected_build_costs(own_database) == costs


async def test_events_of_before_that_do_not_say_how_long_stay_valid(own_database: Connection) -> None:
    await at(own_database, "12:00:00")
    event = {"event_id": str(UUID(int=2)), "type": "build_succeeded", "occurred_at": "2026-11-20T12:00:00Z"}
    named = {"product": "fog", "channel": "nightly", "probe": "gc_ms"}
    await append(own_database, records([event | named | {"data": {"build_id": "b", "bytes": 7, "rows": 1}}]))
    await fold_all(own_database)
    [cost] = (await projected_build_costs(own_database)).values()
    assert cost[1:] == (7, None)
