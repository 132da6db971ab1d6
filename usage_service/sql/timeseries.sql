-- counted: views and visitors of probes by hour, day or week; those that had none are left out.
-- $1 product, $2 probes ('' for all together), $3 since, $4 until, $5 length of a bucket, $6 channel or null, $7 count bots,
-- $8 how many visitors to look at.
-- Where the sets of several hours, channels or bots are united, it is over those visitors whose mark is low enough for that
-- many to be looked at, and for every hour to have kept all of those; what they stand for is the estimate (Bar-Yossef
-- et al., Counting distinct elements in a data stream, 2002, algorithm 2: k-minimum values).
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
), marked AS (
    SELECT *, row_number() OVER () AS bucket, CASE WHEN cells > 1 OR complete_below IS NOT NULL THEN
        least(complete_below, sample_key_for($8, (sum(held) FILTER (WHERE cells > 1) OVER ())::bigint)) END AS mark
    FROM buckets
), bounded AS MATERIALIZED (  -- once a bucket, not for each of its cells
    SELECT bucket, probe, start, sample_bound(mark) AS bound FROM marked WHERE mark IS NOT NULL
), united AS (
    SELECT bucket, count(*) AS visitors FROM (
        SELECT DISTINCT bucket, visitor FROM (
            SELECT b.bucket, unnest(c.visitors[:width_bucket(b.bound, c.visitors)]) AS visitor
            FROM bounded b JOIN cells c USING (probe, start)
        ) looked_at
    ) distinct_visitors GROUP BY bucket
)
SELECT m.probe, m.start, m.found, m.missing,
       CASE WHEN m.mark IS NULL THEN m.held
            ELSE round(coalesce(u.visitors, 0) * (1::bigint << 32)::numeric / m.mark) END::bigint AS visitors,
       coalesce(m.mark / (1::bigint << 32)::float8, 1) AS visitors_looked_at
FROM marked m LEFT JOIN united u USING (bucket);
