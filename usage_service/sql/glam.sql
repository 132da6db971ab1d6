-- data: a probe's rows in the versions from $4 before the latest one to it: the latest that was released, or that the probe has rows
-- of, where no release is known. $5 ping type or null, $6 operating system, $7 of whole versions (else of single builds), $8 metric
-- key, empty for any. A labeled counter whose labels are all declared is shown by its sums alone.
SELECT probe_rows.version, ping_type, os, build_id, build_date, probe AS metric, metric_type, metric_key, client_agg_type, total_users,
       total_sample AS sample_count, histogram, percentiles, non_norm_histogram, non_norm_percentiles,
       coalesce((SELECT r.revision FROM build_revisions r
                 WHERE r.product = $1 AND r.channel = $2 AND r.build_hour = probe_rows.build_id), '') AS revision
FROM probe_rows CROSS JOIN LATERAL (
    SELECT coalesce(
        (SELECT max(r.version) FROM releases r WHERE r.product = $1 AND r.channel = $2),
        (SELECT max(p.version) FROM probe_rows p WHERE p.product = $1 AND p.channel = $2 AND p.probe = $3)) AS version
) latest
WHERE product = $1 AND channel = $2 AND probe = $3
  AND probe_rows.version BETWEEN latest.version - $4 AND latest.version
  AND ($5::text IS NULL OR ping_type = $5) AND os = $6 AND (build_id = '*') = $7 AND ($8 = '' OR metric_key = $8)
  AND (client_agg_type IN ('sum', 'summed_histogram') OR metric_type <> 'labeled_counter' OR NOT EXISTS (
      SELECT FROM catalogue c WHERE c.product = $1 AND c.probe = $3 AND jsonb_array_length(c.definition -> 'labels') > 0))
ORDER BY probe_rows.version DESC, build_id DESC, ping_type, metric_key, client_agg_type;

-- labels: the metric keys of a probe's rows. $4 ping type or null, $5 operating system.
SELECT DISTINCT metric_key FROM probe_rows
WHERE product = $1 AND channel = $2 AND probe = $3 AND ($4::text IS NULL OR ping_type = $4) AND os = $5
ORDER BY metric_key;

-- views: the views in a range of positions ($1, $2], in their order; from the instant $3 to the instant $4, each null for any.
-- $5 product or null, $6 also those that found nothing.
SELECT position AS id, occurred_at AS timestamp, product, channel, probe AS probe_name,
       data ->> 'ping_type' AS ping_type, data ->> 'os' AS os, data ->> 'aggregation_level' AS aggregation_level,
       data -> 'versions' AS versions, (data ->> 'found')::boolean AS found
FROM event_log
WHERE position > $1 AND position <= $2 AND type = 'probe_viewed'
  AND occurred_at >= coalesce($3::timestamptz, '-infinity') AND occurred_at <= coalesce($4::timestamptz, 'infinity')
  AND ($5::text IS NULL OR product = $5) AND ($6 OR (data ->> 'found')::boolean)
ORDER BY position;

-- at_midnight: the views at the very midnight $1, as far as the popularity has them. $2 product or null, $3 also those that found
-- nothing.
SELECT product, channel, probe AS probe_name FROM event_log
WHERE type = 'probe_viewed' AND (occurred_at AT TIME ZONE 'UTC')::time = '00:00' AND occurred_at = $1
  AND position <= (SELECT p.position FROM projections p WHERE p.name = 'popularity' AND p.stage = 'live')
  AND ($2::text IS NULL OR product = $2) AND ($3 OR (data ->> 'found')::boolean);

-- updates: when each product and channel last got rows by a build, by the names `product-channel`. $1 one of these names, empty for all.
WITH RECURSIVE channels AS (
    (SELECT product, channel FROM builds ORDER BY product, channel LIMIT 1)
    UNION ALL
    SELECT following.product, following.channel
    FROM channels c CROSS JOIN LATERAL (
        SELECT b.product, b.channel FROM builds b WHERE (b.product, b.channel) > (c.product, c.channel)
        ORDER BY b.product, b.channel LIMIT 1
    ) following
)
SELECT c.product || '-' || c.channel AS name, latest.finished_at
FROM channels c CROSS JOIN LATERAL (
    SELECT b.finished_at FROM builds b
    WHERE b.finished_at IS NOT NULL AND b.product = c.product AND b.channel = c.channel AND b.state = 'succeeded'
    ORDER BY b.finished_at DESC LIMIT 1
) latest
WHERE $1 IN ('', c.product || '-' || c.channel)
ORDER BY 1;

-- probes: the probes of a product that are registered and neither retired nor hidden. $1 product.
SELECT c.probe AS name, c.metric_type AS type, c.definition -> 'labels' AS labels
FROM catalogue c
WHERE c.product = $1 AND c.metric_type IS NOT NULL AND (c.retired_at IS NULL OR c.retired_at < c.described_at)
  AND NOT EXISTS (SELECT FROM hidden_by(c.product, c.probe))
ORDER BY c.probe;

-- shown_first: what the home page shows of the probes $3 of the product $1 on the channel $2, in their order, $4 at most: the histogram of
-- all builds, systems and pings in the second newest version, which more clients have sent, or the newest if there is but one.
-- Distributions only, as one chart shows them.
SELECT p.probe AS name, c.metric_type AS type, c.definition -> 'labels' AS labels, shown.histogram
FROM unnest($3::text[]) WITH ORDINALITY p (probe, place)
JOIN catalogue c ON c.product = $1 AND c.probe = p.probe
CROSS JOIN LATERAL (
    SELECT r.histogram
    FROM (
        SELECT q.histogram, q.version FROM probe_rows q
        WHERE q.product = $1 AND q.channel = $2 AND q.probe = p.probe AND q.ping_type = '*' AND q.os = '*' AND q.build_id = '*'
          AND q.metric_key = '' AND q.client_agg_type = 'summed_histogram' AND q.metric_type LIKE '%\_distribution'
        ORDER BY q.version DESC LIMIT 2
    ) r
    ORDER BY r.version LIMIT 1
) shown
ORDER BY p.place LIMIT $4;

-- last_build: when a build was last over.
SELECT max(finished_at) FROM builds;
