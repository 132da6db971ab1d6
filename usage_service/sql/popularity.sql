-- ranked: views and visitors by product and probe in a window of days, with the views of the window before it.
-- $1 first day, $2 last day, $3 product or null, $4 channel or null, $5 count bots, $6 order, $7 limit; $8 order_key,
-- $9 product and $10 probe of the last one of the page before, or null.
-- `most` and `trending` rank what was viewed; `least` also what the catalogue has and nobody looked at. A trend is the
-- growth in views over its standard error, both windows taken as Poisson counts, so that 40 against 20 outranks 2 against 1.
WITH wanted AS MATERIALIZED (
    SELECT series, CASE WHEN bot THEN series_number(product, probe, false) ELSE series END AS people, product, probe
    FROM popularity_series
    WHERE ($3::text IS NULL OR product = $3) AND ($5 OR NOT bot)
), viewed AS (
    SELECT series, sum(found) AS found, sum(missing) AS missing, sum(before) AS before
    FROM (
        SELECT series, found, missing, 0 AS before
        FROM window_views($1, $2) WHERE $4::text IS NULL OR channel = $4
        UNION ALL
        SELECT series, 0, 0, found + missing
        FROM window_views($1::date - ($2::date - $1::date + 1), $1::date - 1)
        WHERE $6 IN ('trending', 'least') AND ($4::text IS NULL OR channel = $4)
    ) v
    GROUP BY series
), windows AS (
    SELECT product, probe, sum(found)::bigint AS found, sum(missing)::bigint AS missing, sum(before)::bigint AS before
    FROM viewed JOIN wanted USING (series)
    GROUP BY people, product, probe  -- by the number first: names are slow to compare
), candidates AS (
    SELECT * FROM windows WHERE $6 = 'least' OR found + missing > 0
    UNION ALL
    SELECT c.product, c.probe, 0, 0, 0 FROM catalogue c
    WHERE $6 = 'least' AND ($3::text IS NULL OR c.product = $3)
      AND (c.retired_at IS NULL OR c.retired_at < c.described_at)
      AND NOT EXISTS (SELECT FROM windows w WHERE w.product = c.product AND w.probe = c.probe)
), ordered AS (
    SELECT product, probe, found, missing, found + missing AS views, CASE $6
        WHEN 'most' THEN -(found + missing)::float8 WHEN 'least' THEN (found + missing)::float8
        ELSE (before - found - missing)::float8 / sqrt(greatest(found + missing + before, 1)::float8) END AS order_key
    FROM candidates
), page AS MATERIALIZED (
    SELECT * FROM ordered WHERE $8::float8 IS NULL OR (order_key, product, probe) > ($8, $9::text, $10::text)
    ORDER BY order_key, product, probe LIMIT $7
), spans_before AS MATERIALIZED (
    SELECT s.days, s.since + day AS first_day
    FROM window_spans($1::date - ($2::date - $1::date + 1), $1::date - 1) s
    CROSS JOIN LATERAL generate_series(0, s.until - s.since, s.days) AS day
)
SELECT r.order_key, r.product, r.probe, r.views, v.visitors, r.found, r.missing, b.views_before,
       round(((r.views - b.views_before) / sqrt(greatest(r.views + b.views_before, 1)))::numeric, 3)::float8 AS trend
FROM page r
CROSS JOIN LATERAL (
    SELECT CASE WHEN $4::text IS NULL AND NOT $5 THEN
        window_visitors(series_number(r.product, r.probe, false), $1, $2)
    ELSE (
        SELECT count(DISTINCT p.visitor) FROM wanted w JOIN popularity_visitors p USING (series)
        WHERE w.product = r.product AND w.probe = r.probe AND p.day BETWEEN $1 AND $2
          AND ($4::text IS NULL OR p.channel = $4)
    ) END AS visitors
) v
CROSS JOIN LATERAL (
    SELECT coalesce(sum(p.views), 0)::bigint AS views_before
    FROM (VALUES (series_number(r.product, r.probe, false)), (CASE WHEN $5 THEN series_number(r.product, r.probe, true) END)) w (series)
    CROSS JOIN spans_before s CROSS JOIN LATERAL (
        SELECT p.found + p.missing AS views FROM popularity_views p
        WHERE p.days = s.days AND p.first_day = s.first_day AND p.series = w.series AND ($4::text IS NULL OR p.channel = $4)
        OFFSET 0  -- looked up one by one
    ) p
) b
ORDER BY r.order_key, r.product, r.probe;
