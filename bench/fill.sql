-- Events number :first to :last of a made log, written by the owner without the service.
INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel,
                       probe, source, data, digest)
SELECT n, md5('event ' || n)::uuid, 'probe_viewed', 1, timestamptz '2026-01-01' + n * interval '100 milliseconds',
       timestamptz '2026-01-01' + n * interval '100 milliseconds', md5('visitor ' || n % 100000)::uuid, 'fog', 'nightly',
       'probe_' || n % 1000, 'app',
       '{"found": true, "ping_type": "metrics", "os": "Windows", "versions": [143, 144, 145]}', md5('digest ' || n)::uuid
FROM generate_series(:first::bigint, :last::bigint) AS n;

-- The projections begin at the end of the made log.
UPDATE projections SET position = :last;
SELECT setval('event_position', :last);
