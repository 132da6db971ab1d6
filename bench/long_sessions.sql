-- Events number :first to :last of a hundred visitors who never pause, each viewing :names probes as if by chance, from the minute
-- :minute on, one every :step milliseconds.
INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
                       data, digest)
SELECT n, md5('event ' || n)::uuid, 'probe_viewed', 1, at, at, md5('visitor ' || n % 100)::uuid, 'fog', 'nightly',
       'probe_' || ('x' || left(md5('probe ' || n), 7))::bit(28)::integer % :names, 'app', '{"found": true}',
       md5('digest ' || n)::uuid
FROM generate_series(:first::bigint, :last::bigint) AS n
CROSS JOIN LATERAL (
    SELECT timestamptz '2026-01-01' + :minute * interval '1 minute' + (n - :first) * :step * interval '1 millisecond' AS at
) t;
SELECT setval('event_position', :last);
