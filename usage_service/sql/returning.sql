-- weeks: of the visitors below the sample key $5 with a session that began from $1 to before $2, both Mondays: how many came in each
-- week, and how many of these came so many weeks later (0: in the week itself). $3 product or null, $4 bots.
WITH visitor_weeks AS MATERIALIZED (
    SELECT DISTINCT visitor, date_bin('7 days', started_at, '2001-01-01T00:00:00Z') AS week  -- a Monday
    FROM sampled_sessions($1, $2, $3, $4, $5)
)
SELECT came.week AS start, (extract(epoch FROM again.week - came.week) / 604800)::integer AS weeks_later, count(*) AS visitors
FROM visitor_weeks came JOIN visitor_weeks again ON again.visitor = came.visitor AND again.week >= came.week
GROUP BY 1, 2;
