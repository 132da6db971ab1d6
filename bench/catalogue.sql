-- Registrations of :probes probes, whose names are those of traffic.sql, a hundred days before its :days days.
INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, product, probe, source, data, digest)
SELECT nextval('event_position'), md5('registered ' || n)::uuid, 'probe_registered', 1, now() - (:days + 100) * interval '1 day',
       now(), 'fog', 'probe_' || lpad(n::text, 4, '0'), 'etl', '{"type": "timing_distribution", "ping": "metrics"}'::jsonb,
       md5('registered digest ' || n)::uuid
FROM generate_series(0, :probes - 1) AS n;
