-- result: the newest build of a probe that has a result.
SELECT build_id, state, finished_at, log_position FROM builds
WHERE product = $1 AND probe = $2 AND channel = $3 AND state IN ('succeeded', 'no_data')
ORDER BY finished_at DESC LIMIT 1;

-- rows: the aggregates of a probe. $4 version, $5 ping type, $6 operating system, $7 build, $8 metric key, $9 aggregation
-- within a client: each null for all.
SELECT product, channel, version, ping_type, os, build_id, probe, metric_type, metric_key, client_agg_type,
       total_users, total_sample, histogram, percentiles, non_norm_histogram, non_norm_percentiles, build_date
FROM probe_rows
WHERE product = $1 AND probe = $2 AND channel = $3
  AND ($4::integer IS NULL OR version = $4) AND ($5::text IS NULL OR ping_type = $5)
  AND ($6::text IS NULL OR os = $6) AND ($7::text IS NULL OR build_id = $7)
  AND ($8::text IS NULL OR metric_key = $8) AND ($9::text IS NULL OR client_agg_type = $9)
ORDER BY version DESC, ping_type, os, build_id, metric_key, client_agg_type;

-- known: whether the catalogue has the probe.
SELECT EXISTS (SELECT FROM catalogue WHERE product = $1 AND probe = $2 AND metric_type IS NOT NULL);

-- facets: the distinct values in the rows of a probe.
SELECT coalesce(array_agg(DISTINCT version ORDER BY version DESC), '{}') AS versions,
       coalesce(array_agg(DISTINCT ping_type), '{}') AS ping_types,
       coalesce(array_agg(DISTINCT os), '{}') AS systems,
       coalesce(array_agg(DISTINCT build_id ORDER BY build_id DESC), '{}') AS builds,
       coalesce(array_agg(DISTINCT metric_key), '{}') AS labels,
       coalesce(array_agg(DISTINCT client_agg_type), '{}') AS aggregations
FROM probe_rows WHERE product = $1 AND probe = $2 AND channel = $3;
