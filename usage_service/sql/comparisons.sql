-- row: the row of a probe for one choice, and the clients of the rows that it sums up: those of single builds and pings. $4 version,
-- $5 ping type, $6 operating system, $7 build, $8 metric key, $9 aggregation within a client.
SELECT r.metric_type, r.total_users, r.histogram, r.percentiles::text <> '{}' AS is_numeric, ARRAY(
    SELECT p.total_users::float8 FROM probe_rows p
    WHERE p.product = $1 AND p.probe = $2 AND p.channel = $3 AND p.version = $4 AND p.os = $6
      AND p.metric_key = $8 AND p.client_agg_type = $9 AND p.ping_type <> '*' AND p.build_id <> '*'
      AND $5 IN ('*', p.ping_type) AND $7 IN ('*', p.build_id)
) AS parts
FROM probe_rows r
WHERE r.product = $1 AND r.probe = $2 AND r.channel = $3 AND r.version = $4 AND r.ping_type = $5 AND r.os = $6 AND r.build_id = $7
  AND r.metric_key = $8 AND r.client_agg_type = $9;

-- builds: the rows of a probe's single builds, the oldest first, each with the clients of its pings and its revision of the source.
-- $4 ping type, $5 operating system, $6 metric key, $7 aggregation within a client.
WITH pings AS (
    SELECT *, array_agg(total_users::float8) FILTER (WHERE ping_type <> '*' AND $4 IN ('*', ping_type))
              OVER (PARTITION BY version, build_id) AS parts
    FROM probe_rows
    WHERE product = $1 AND probe = $2 AND channel = $3 AND os = $5 AND metric_key = $6 AND client_agg_type = $7 AND build_id <> '*'
)
SELECT p.version, p.build_id, p.total_users, p.histogram, p.percentiles::text <> '{}' AS is_numeric, coalesce(p.parts, '{}') AS parts,
       r.revision
FROM pings p LEFT JOIN build_revisions r ON r.product = $1 AND r.channel = $3 AND r.build_hour = p.build_id
WHERE p.ping_type = $4
ORDER BY p.build_id, p.version;

-- versions: the rows of each built probe that sum up all builds, systems and pings, of a version and of the one before it that the
-- probe has; each as in `row`. $1 product, $2 channel, $3 version, $4 how many to read, by name. By keys: whatever the probes are many.
SELECT p.probe, r.version, r.metric_key, r.client_agg_type, r.total_users, r.histogram, r.percentiles::text <> '{}' AS is_numeric,
       clients.parts, c.metric_type, c.details ->> 'time_unit' AS time_unit, c.details ->> 'memory_unit' AS memory_unit,
       c.details ->> 'unit' AS unit
FROM (SELECT DISTINCT probe FROM builds WHERE product = $1 AND channel = $2 AND state = 'succeeded') p
LEFT JOIN catalogue c ON c.product = $1 AND c.probe = p.probe
CROSS JOIN LATERAL (
    SELECT b.version FROM probe_rows b
    WHERE b.product = $1 AND b.channel = $2 AND b.probe = p.probe AND b.version < $3
    ORDER BY b.version DESC LIMIT 1
) before
CROSS JOIN LATERAL (
    SELECT * FROM probe_rows a
    WHERE a.product = $1 AND a.channel = $2 AND a.probe = p.probe AND a.version IN ($3, before.version)
      AND a.ping_type = '*' AND a.os = '*' AND a.build_id = '*' AND a.client_agg_type IN ('summed_histogram', 'sum', '')
) r
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(s.total_users::float8), '{}') AS parts FROM probe_rows s
    WHERE s.product = $1 AND s.channel = $2 AND s.probe = p.probe AND s.version = r.version AND s.os = '*'
      AND s.metric_key = r.metric_key AND s.client_agg_type = r.client_agg_type AND s.ping_type <> '*' AND s.build_id <> '*'
) clients
WHERE NOT EXISTS (SELECT FROM hidden_by($1, p.probe))
ORDER BY p.probe, r.metric_key, r.client_agg_type, r.version
LIMIT $4;
