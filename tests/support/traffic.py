"""Made-up events of all types, many at a time, and checks of the projections against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from tests.support import reference
from tests.support.projected import (
    projected_buckets,
    projected_build_costs,
    projected_catalogue,
    projected_journeys,
    projected_popularity,
    projected_releases,
    projected_returns,
    projected_revisions,
    projected_session_counts,
    projected_sessions,
    projected_timeseries,
)
from tests.support.reference import ORIGINS
from tests.support.servers import Connection, JsonObject
from usage_service.events import OWN_TYPES
from usage_service.ingest.appending import Record
from usage_service.ingest.parsing import Envelope, Reader
from usage_service.ingest.visitors import VisitorKeys
from usage_service.projections.runner import Folder

BUCKET_DAYS = [7, 28, 112]
VISITORS = VisitorKeys("a secret for tests only", 90)
PROJECTIONS = ["build_costs", "catalogue", "journeys", "popularity", "releases", "sessions", "timeseries"]
REFERRERS = [referrer for referrer in ORIGINS if referrer]
# What is drawn depends on how many are asked for and how many there are: a test that passes once passes every time.
SEED = "SELECT setseed((hashtext(format('%s of %s', $1::integer, (SELECT count(*) FROM event_log))) / 2147483648.0))"
# Of 20 visitors in three days, so that later events join, extend and merge sessions.
APPEND = """
WITH drawn AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, floor(random() * 11)::integer AS kind, floor(random() * 24)::integer AS who,
           date_trunc('minute', '2026-11-20T12:00:00Z'::timestamptz + random() * interval '3 days') AS at,
           (ARRAY['gc_ms', 'slow_ms', 'other_ms'])[1 + floor(random() * 3)::integer] AS name,
           ($2::text[])[1 + floor(random() * cardinality($2::text[]))::integer] AS referrer,
           random() < 0.1 AS bot, random() < 0.5 AS yes
    FROM generate_series(1, $1)
), made AS (
    SELECT id, at, kind, CASE WHEN who < 20 THEN md5('visitor ' || who)::uuid END AS lookup, name, bot, yes,
           (ARRAY['page_viewed', 'probe_viewed', 'probe_viewed', 'probe_viewed', 'control_changed', 'link_followed',
                  'x_mine', 'probe_registered', 'probe_built', 'release_published',
                  'build_succeeded'])[kind + 1] AS type, referrer
    FROM drawn
), whole AS (
    SELECT *, CASE type
        WHEN 'page_viewed' THEN jsonb_build_object('page', '/' || name, 'referrer', referrer)
        WHEN 'probe_viewed' THEN jsonb_build_object('found', yes)
        WHEN 'control_changed' THEN jsonb_build_object('control', name)
        WHEN 'link_followed' THEN jsonb_build_object('tool', name)
        WHEN 'probe_registered' THEN jsonb_build_object(
            'type', CASE WHEN yes THEN 'counter' ELSE 'event' END, 'ping', name)
            || CASE WHEN bot THEN jsonb_build_object('labels', jsonb_build_array(name, referrer)) ELSE '{}' END
        WHEN 'release_published' THEN jsonb_build_object('version', length(referrer))
        WHEN 'build_succeeded' THEN jsonb_build_object('build_id', id, 'bytes', length(referrer))
            || CASE WHEN yes THEN jsonb_build_object('seconds', kind) ELSE '{}' END
        ELSE '{}' END || CASE WHEN bot THEN '{"bot": true}'::jsonb ELSE '{}' END AS data
    FROM made
), columns AS (
    SELECT array_agg(id) AS ids, array_agg(type) AS types, array_agg(1::smallint) AS versions, array_agg(at) AS ats,
           array_agg(lookup) AS lookups, array_agg(CASE WHEN lookup IS NOT NULL THEN 20000 END) AS epochs,
           array_agg(CASE WHEN yes THEN 'fog' ELSE 'fenix' END) AS products,
           array_agg(CASE WHEN yes OR type ~ '^(release|build)' THEN 'nightly' END) AS channels,
           array_agg(CASE WHEN type ~ '^(probe|build)' THEN name END) AS probes, array_agg('test'::text) AS sources,
           array_agg(data) AS payloads, array_agg(id) AS digests
    FROM whole
)
SELECT max(a.log_position) FROM columns c,
    append_events(c.ids, c.types, c.versions, c.ats, c.lookups, c.epochs, c.products, c.channels, c.probes, c.sources,
                  c.payloads, c.digests) a
"""


async def append_traffic(connection: Connection, number: int) -> int:
    """Append so many events in one transaction; return the position of the last."""
    await connection.execute(SEED, number)
    position: int = await connection.fetchval(APPEND, number, REFERRERS)
    return position


def records(batch: list[JsonObject]) -> list[Record]:
    """Parse these events, all of which must be valid, to the records to append; the service's own as it writes them."""
    envelope = Envelope([msgspec.Raw(msgspec.json.encode(item)) for item in batch if item["type"] not in OWN_TYPES])
    judged = Reader(VISITORS).read(envelope, "test", datetime.now(UTC))
    assert all(isinstance(item, Record) for item in judged), judged
    read = {item.sent_id: item for item in judged if isinstance(item, Record)}
    return [_own_record(item) if item["type"] in OWN_TYPES else read[UUID(item["event_id"])] for item in batch]


def _own_record(item: JsonObject) -> Record:
    at, event_id = datetime.fromisoformat(item["occurred_at"]), UUID(item["event_id"])
    named = item.get("product"), item.get("channel"), item.get("probe")
    data = msgspec.Raw(msgspec.json.encode(item["data"]))
    return Record(event_id, item["type"], 1, at, None, *named, "test", data, digest=event_id)


async def logged(connection: Connection, projection: str | None = None) -> list[JsonObject]:
    """Read the log as on the wire, but with the pseudonyms of visitors; without what the projection has set aside."""
    rows = await connection.fetch(
        """
        SELECT event_id::text, type, occurred_at, visitor::text, product, channel, probe, data
        FROM event_log
        WHERE position NOT IN (SELECT position FROM dead_letters WHERE projection = $1 AND stage = 'live')
        ORDER BY position
        """,
        projection,
    )
    return [dict(row) | {"occurred_at": row["occurred_at"].isoformat()} for row in rows]


async def assert_as_the_reference(connection: Connection) -> None:
    """Assert that all projections are at the end of the log and equal the reference, but for what each set aside."""
    assert await connection.fetchval("SELECT bool_and(behind = 0) FROM projection_status WHERE stage = 'live'")
    logs = {projection: await logged(connection, projection) for projection in PROJECTIONS}
    await assert_rows_of(connection, logs, timedelta(minutes=30))


async def assert_rows_of(connection: Connection, logs: Mapping[str, list[JsonObject]], gap: timedelta) -> None:
    """Assert that each projection equals the reference of its events, with the pseudonyms of visitors."""
    sessions = reference.sessions(logs["sessions"], gap)
    viewed = logs["popularity"]
    assert await projected_sessions(connection) == sessions
    assert await projected_session_counts(connection) == reference.session_counts(sessions)
    assert await projected_popularity(connection) == reference.popularity(viewed)
    for days in BUCKET_DAYS:
        assert await projected_buckets(connection, days) == reference.popularity_buckets(viewed, days)
    assert await projected_returns(connection) == reference.popularity_returns(viewed)
    assert await projected_build_costs(connection) == reference.build_costs(logs["build_costs"])
    assert await projected_catalogue(connection) == reference.catalogue(logs["catalogue"])
    assert await projected_releases(connection) == reference.releases(logs["releases"])
    assert await projected_revisions(connection) == reference.build_revisions(logs["releases"])
    assert await projected_journeys(connection) == reference.journey_events(logs["journeys"])
    assert await projected_timeseries(connection) == reference.timeseries(logs["timeseries"])


async def fold_all(connection: Connection) -> None:
    """Fold every live projection to the end of the log, even while others fold it, too."""
    for projection in PROJECTIONS:
        folder = Folder(projection)
        while (fold := await folder.fold(connection)).now_at < fold.log_end:
            pass


async def leftovers(connection: Connection) -> list[Any]:
    """Return the projections filled beside the live ones, and the schemas that were made for them."""
    rows = await connection.fetch("""
        SELECT name || ' ' || stage FROM projections WHERE stage <> 'live'
        UNION ALL SELECT nspname FROM pg_namespace WHERE nspname ~ '^(rebuild|verify)_'
    """)
    return [row[0] for row in rows]


def ignore(done: int) -> None:
    """Ignore a report of progress."""
