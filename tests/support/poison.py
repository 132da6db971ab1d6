"""Events that projections cannot fold, as a careless restoring would put them into the log; and a broken fold."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.support.servers import Connection

# The fold of releases fails at version 9999 with what is no event's fault; and is mended.
BROKEN = """
ALTER FUNCTION fold_releases RENAME TO fold_releases_as_before;
CREATE FUNCTION fold_releases(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM event_log
        WHERE position > after_position AND position <= to_position AND data @> '{"version": 9999}'
    ) THEN
        RAISE undefined_table USING MESSAGE = 'relation "versions" does not exist';
    END IF;
    RETURN fold_releases_as_before(after_position, to_position);
END $$;
"""
MENDED = """
DROP FUNCTION fold_releases;
ALTER FUNCTION fold_releases_as_before RENAME TO fold_releases;
"""


class Poison(NamedTuple):
    """An event that no door takes, and the projections that cannot fold it."""

    type: str
    data: dict[str, Any]
    projections: set[str]
    product: str | None = "fog"
    channel: str | None = "nightly"
    probe: str | None = "gc_ms"


# An index takes rows of 2.7 kB, and what repeats itself is compressed.
LONG = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(3_000))
POISONS = [
    Poison("probe_viewed", {"found": "zzz"}, {"popularity", "timeseries"}),
    Poison("probe_viewed", {"found": True}, {"popularity", "timeseries"}, product=None),
    Poison("probe_viewed", {"found": True}, {"popularity", "timeseries"}, channel=LONG),
    Poison("page_viewed", {"page": "/"}, {"sessions"}, product=LONG),
    Poison("page_viewed", {}, {"journeys"}),
    Poison("release_published", {"version": "next"}, {"releases"}),
    Poison("release_published", {"version": 10**12}, {"releases"}),
    Poison("release_published", {"version": 1}, {"releases"}, channel=None),
    Poison("revision_published", {"build_id": "2026112010"}, {"releases"}),
    Poison("release_published", {"version": 1, "published_at": "soon"}, {"releases"}),
    Poison("release_retracted", {"version": 1, "published_at": 2026}, {"releases"}),
    Poison("probe_registered", {"type": "counter", "ping": "metrics"}, {"catalogue"}, probe=None),
    Poison("probe_built", {}, {"catalogue"}, product=LONG),
    Poison("build_succeeded", {"bytes": "many"}, {"build_costs"}),
    Poison("build_succeeded", {"bytes": -1}, {"build_costs"}),
    Poison("build_found_no_data", {"bytes": 1}, {"build_costs"}, channel=None),
]  # fmt: skip
PUT_IN = """
INSERT INTO event_log
SELECT nextval('event_position'), gen_random_uuid(), $1, 1, '2026-11-21T12:00:00Z', current_instant(),
       md5('poisoned visitor')::uuid, $2, $3, $4, 'test', $5, gen_random_uuid()
RETURNING position
"""


async def put_in(connection: Connection, poison: Poison) -> int:
    """Put the event into the log past every check, at the end; return its position."""
    position: int = await connection.fetchval(
        PUT_IN, poison.type, poison.product, poison.channel, poison.probe, poison.data
    )
    return position


async def dead_letters(connection: Connection, projection: str, stage: str = "live") -> list[int]:
    """Return the positions of the events that a projection has set aside."""
    rows = await connection.fetch(
        "SELECT position FROM dead_letters WHERE (projection, stage) = ($1, $2) ORDER BY position", projection, stage
    )
    return [row[0] for row in rows]
