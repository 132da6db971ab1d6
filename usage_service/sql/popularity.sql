-- ranked: views and visitors by product and probe in a window of days, with the views of the window before it.
-- $1 first day, $2 last day, $3 product or null, $4 channel or null, $5 count bots, $6 order, $7 limit.
-- `most` and `trending` rank what was viewed; `least` also what the catalogue has and nobody looked at. A trend is the
-- growth in views over its standard error, both windows taken as Poisson counts, so that 40 against 20 outranks 2 against 1.
WITH windows AS (
    SELECT d.product, d.probe,
           coalesce(sum(d.found) FILTER (WHERE d.day >= $1), 0)            AS found,
           coalesce(sum(d.missing) FILTER (WHERE d.day >= $1), 0)          AS missing,
           coalesce(sum(d.found + d.missing) FILTER (WHERE d.day < $1), 0) AS views_before
    FROM popularity_days d
    WHERE d.day BETWEEN $1::date - ($2::date - $1::date + 1) AND $2
      AND ($3::text IS NULL OR d.product = $3) AND ($4::text IS NULL OR d.channel = $4) AND ($5 OR NOT d.bot)
    GROUP BY d.product, d.probe
), candidates AS (
    SELECT * FROM windows WHERE $6 = 'least' OR found + missing > 0
    UNION ALL
    SELECT c.product, c.probe, 0, 0, 0 FROM catalogue c
    WHERE $6 = 'least' AND ($3::text IS NULL OR c.product = $3)
      AND (c.retired_at IS NULL OR c.retired_at < c.described_at)
      AND NOT EXISTS (SELECT FROM windows w WHERE w.product = c.product AND w.probe = c.probe)
), scored AS (
    SELECT *, found + missing AS views,
           (found + missing - views_before) / sqrt(greatest(found + missing + views_before, 1)) AS trend
    FROM candidates
), ranked AS MATERIALIZED (
    SELECT *, row_number() OVER (
        ORDER BY CASE $6 WHEN 'most' THEN -views WHEN 'least' THEN views ELSE -trend END, product, probe
    ) AS rank
    FROM scored ORDER BY rank LIMIT $7
)
SELECT r.product, r.probe, r.views, v.visitors, r.found, r.missing, r.views_before, round(r.trend::numeric, 3)::float8 AS trend
FROM ranked r
CROSS JOIN LATERAL (
    SELECT count(*) AS visitors FROM (
        SELECT DISTINCT v.visitor FROM popularity_visitors v
        WHERE v.product = r.product AND v.probe = r.probe AND v.day BETWEEN $1 AND $2
          AND ($4::text IS NULL OR v.channel = $4) AND ($5 OR NOT v.bot)
    ) once
) v
ORDER BY r.rank;
