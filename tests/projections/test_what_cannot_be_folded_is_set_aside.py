"""An event that a projection cannot fold is set aside by itself: the projection goes on, and says so."""

from __future__ import annotations

from uuid import uuid4


from tests.support.servers import Connection, event
from tests.support.traffic import append_traffic, assert_as_the_reference, fold_all, records
from usage_service.ingest.appending import append

# As a careless restoring of an export would put it there.
PUT_IN = """
INSERT INTO event_log
SELECT nextval('event_position'), gen_random_uuid(), $1, 1, '2026-11-20T12:00:00Z', current_instant(), NULL, 'fog', 'nightly',
       'gc_ms', 'test', $2, gen_random_uuid()
"""


async def test_the_projection_goes_on(own_database: Connection) -> None:
    await append_traffic(own_database, 20)
    await own_database.execute(PUT_IN, "probe_viewed", {"found": "zzz"})
    await append_traffic(own_database, 20)
    await fold_all(own_database)


async def test_a_session_about_many_products(own_database: Connection) -> None:
    await append(own_database, records([event(product=f"p{uuid4().hex[:31]}") for _ in range(120)]))
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
