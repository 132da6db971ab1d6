-- state: the version of the live popularity projection, the first position of a whole log, and the first and last day of views.
SELECT p.generation, p.changed_at,
       whole_from(),
       (SELECT min(v.first_day) FROM popularity_views v WHERE v.days = 1) AS first_day,
       (SELECT max(v.first_day) FROM popularity_views v WHERE v.days = 1) AS last_day
FROM projections p WHERE p.name = 'popularity' AND p.stage = 'live';

-- buckets: the buckets of days that each of the windows from the days $1 to the days $2 is made of.
SELECT w.number, b.days, b.since + day AS first_day
FROM unnest($1::date[], $2::date[]) WITH ORDINALITY w (first_day, last_day, number)
CROSS JOIN LATERAL window_buckets(w.first_day, w.last_day) b
CROSS JOIN LATERAL generate_series(0, b.until - b.since, b.days) AS day;

-- loaded: the views in the buckets of $1 days from the days $2 on, an array a column.
SELECT v.days, v.first_day, array_agg(v.series) AS series, array_agg(v.channel) AS channels, array_agg(v.found) AS found,
       array_agg(v.missing) AS missing
FROM unnest($1::integer[], $2::date[]) b (days, first_day)
JOIN popularity_views v USING (days, first_day)
GROUP BY v.days, v.first_day;

-- changed: the views in the buckets that events after the position $1, up to $2, belong to.
SELECT v.days, v.first_day, v.series, v.channel, v.found, v.missing
FROM (
    SELECT DISTINCT series_number(e.product, e.probe, e.data @> '{"bot": true}') AS series, coalesce(e.channel, '') AS channel,
           utc_day(e.occurred_at) AS day
    FROM event_log e WHERE e.position > $1 AND e.position <= $2 AND e.type = 'probe_viewed'
) c
CROSS JOIN (VALUES (1), (7), (28), (112)) n (days)
CROSS JOIN LATERAL (
    SELECT * FROM popularity_views v
    WHERE v.days = n.days AND v.first_day = bucket_start(c.day, n.days) AND v.series = c.series AND v.channel = c.channel
    OFFSET 0  -- found one by one: the planner would read the whole table
) v;

-- named: the product and probe of each of the series $1, and whether it counts bots.
SELECT series, product, probe, bot FROM popularity_series WHERE series = ANY ($1::bigint[]);
