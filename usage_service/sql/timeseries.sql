-- counted: views and visitors of probes by hour, day or week; those that had none are left out.
-- $1 product, $2 probes ('' for all together), $3 since, $4 until, $5 length of a bucket, $6 channel or null, $7 count bots,
-- $8 how many visitors to sample.
-- The sets of several hours, channels or bots are united for a sample: the visitors whose sample key is below a threshold. It
-- is low enough for about $8 visitors, and for every hour to have kept all visitors below it. Their number is scaled up to the
-- estimate (Bar-Yossef et al., Counting distinct elements in a data stream, 2002, algorithm 2: k-minimum values).
WITH cells AS MATERIALIZED (
    SELECT h.probe, date_bin($5, h.hour, '2001-01-01T00:00:00Z') AS start, h.found, h.missing, h.held,  -- a Monday
           h.complete_below, h.visitors
    FROM probe_hours h
    WHERE h.product = $1 AND h.probe = ANY ($2::text[]) AND h.hour >= $3 AND h.hour < $4
      AND ($6::text IS NULL OR h.channel = $6) AND ($7 OR NOT h.bot)
), buckets AS (
    SELECT probe, start, sum(found) AS found, sum(missing) AS missing, count(*) AS cells,
           sum(held) AS held, min(complete_below) AS complete_below
    FROM cells GROUP BY probe, start
), sampled_buckets AS (
    SELECT *, row_number() OVER () AS bucket, CASE WHEN cells > 1 OR complete_below IS NOT NULL THEN
        least(complete_below, sample_key_for($8, (sum(held) FILTER (WHERE cells > 1) OVER ())::bigint)) END AS sample_key
    FROM buckets
), bucket_bounds AS MATERIALIZED (  -- once a bucket, not for each of its cells
    SELECT bucket, probe, start, sample_bound(sample_key) AS bound FROM sampled_buckets WHERE sample_key IS NOT NULL
), sampled_visitors AS (
    SELECT bucket, count(*) AS visitors FROM (
        SELECT DISTINCT bucket, visitor FROM (
            SELECT b.bucket, unnest(c.visitors[:width_bucket(b.bound, c.visitors)]) AS visitor
            FROM bucket_bounds b JOIN cells c USING (probe, start)
        ) visitors_below
    ) distinct_visitors GROUP BY bucket
)
SELECT b.probe, b.start, b.found, b.missing,
       CASE WHEN b.sample_key IS NULL THEN b.held
            ELSE round(coalesce(v.visitors, 0) * (1::bigint << 32)::numeric / b.sample_key) END::bigint AS visitors,
       coalesce(b.sample_key / (1::bigint << 32)::float8, 1) AS share_of_visitors_read
FROM sampled_buckets b LEFT JOIN sampled_visitors v USING (bucket);

-- viewed_days: the first and the last UTC day on which people viewed the probe $2 ('' for any) of the product $1, in the channel $3
-- (null for any).
SELECT utc_day(min(hour)) AS first, utc_day(max(hour)) AS last
FROM probe_hours WHERE product = $1 AND probe = $2 AND NOT bot AND ($3::text IS NULL OR channel = $3);
