-- data: a probe's rows in the latest versions that it has any of. $4 how many versions, $5 ping type or null, $6 operating
-- system, $7 of whole versions (else of single builds), $8 metric key or null.
SELECT version, ping_type, os, build_id, build_date, probe AS metric, metric_type, metric_key, client_agg_type, total_users,
       total_sample AS sample_count, histogram, percentiles, non_norm_histogram, non_norm_percentiles
FROM probe_rows
WHERE product = $1 AND channel = $2 AND probe = $3
  AND version IN (
      SELECT DISTINCT version FROM probe_rows WHERE product = $1 AND channel = $2 AND probe = $3 ORDER BY version DESC LIMIT $4
  )
  AND ($5::text IS NULL OR ping_type = $5) AND os = $6 AND (build_id = '*') = $7 AND ($8::text IS NULL OR metric_key = $8)
ORDER BY version DESC, build_id DESC, ping_type, metric_key, client_agg_type;

-- begins: the position and the instant (null: any) from which on the log holds every event. An event occurred at most a day
-- after it was recorded.
SELECT b.position, (SELECT e.recorded_at + interval '1 day' FROM event_log e WHERE e.position >= b.position AND b.position > 1
                    ORDER BY e.position LIMIT 1) AS instant
FROM (SELECT whole_from()) b (position);

-- views: the views in a range of positions ($1, $2], in their order; from the instant $3 to before $4, each null for any.
-- $5 product or null.
SELECT position AS id, occurred_at AS timestamp, product, channel, probe AS probe_name,
       data ->> 'ping_type' AS ping_type, data ->> 'os' AS os, data ->> 'aggregation_level' AS aggregation_level,
       data -> 'versions' AS versions
FROM event_log
WHERE position > $1 AND position <= $2 AND type = 'probe_viewed'
  AND occurred_at >= coalesce($3::timestamptz, '-infinity') AND occurred_at < coalesce($4::timestamptz, 'infinity')
  AND ($5::text IS NULL OR product = $5)
ORDER BY position;
