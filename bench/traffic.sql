-- Events number :first to :last of made traffic, spread evenly over the :days days before now, written by the owner
-- without the service: people who cause about 20 events in a visit, 50 of them at a time, and view :probes probes of which a few
-- are viewed often, two fifths of them in another channel than nightly. The same numbers make the same events but for the day
-- they end on.
INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel,
                       probe, source, data, digest)
SELECT n, md5('event ' || n)::uuid, kind.type, 1, at, at,
       md5('visitor ' || (n / 1000 * 50 + chance[1] % 50) % 20000)::uuid, 'fog', (ARRAY['nightly', 'nightly', 'nightly', 'beta', 'release'])[1 + chance[1] / 50 % 5],
       'probe_' || lpad((:probes * power(chance[2] / 65536.0, 3))::integer::text, 4, '0'), 'app', kind.data,
       md5('digest ' || n)::uuid
FROM generate_series(:first::bigint, :last::bigint) AS n
CROSS JOIN LATERAL (SELECT date_trunc('hour', now()) - (:total - n) * (:days * interval '1 day' / :total) AS at) t
CROSS JOIN LATERAL (
    SELECT ARRAY[('x' || substr(md5('chance ' || n), 1, 4))::bit(16)::integer, ('x' || substr(md5('chance ' || n), 5, 4))::bit(16)::integer,
                 ('x' || substr(md5('chance ' || n), 9, 4))::bit(16)::integer % 100] AS chance
) c
CROSS JOIN LATERAL (
    SELECT CASE WHEN chance[3] < 60 THEN 'probe_viewed' WHEN chance[3] < 85 THEN 'control_changed' ELSE 'page_viewed' END AS type,
           CASE WHEN chance[3] < 60 THEN '{"found": true, "ping_type": "metrics", "os": "Windows", "versions": [143, 144, 145]}'
                WHEN chance[3] < 85 THEN '{"control": "aggregation_level", "value": "build_id"}'
                ELSE '{"page": "/fog/probe/gc_ms/explore", "referrer": "https://example.org/"}' END::jsonb AS data
) kind;

SELECT setval('event_position', :last);
