-- published: the latest releases in a time range. $1 since, $2 until, $3 product or null, $4 channel or null, $5 limit.
SELECT product, channel, version, version::text AS label, published_at FROM releases
WHERE published_at >= $1 AND published_at < $2 AND ($3::text IS NULL OR product = $3) AND ($4::text IS NULL OR channel = $4)
ORDER BY published_at DESC, product, channel, version DESC
LIMIT $5;

-- published_at: when the channel $2 of the product $1 got the version $3.
SELECT published_at FROM releases WHERE product = $1 AND channel = $2 AND version = $3;

-- occurred: the latest days on which events of a type occurred, of each product and channel that they name. $1 to $5 as above,
-- $6 the type, $7 how many events to read, the latest first. What names neither product nor channel is of those asked for.
SELECT product, channel, NULL::integer AS version, min(label) AS label, min(occurred_at) AS published_at
FROM (
    SELECT coalesce(product, $3) AS product, coalesce(channel, $4) AS channel, occurred_at,
           left(coalesce(data ->> 'label', data ->> 'name', data ->> 'title', data ->> 'version'), 100) AS label
    FROM event_log
    WHERE type = $6 AND type <> ALL ('{page_viewed,probe_searched,probe_viewed,control_changed,link_followed}')
      AND occurred_at >= $1 AND occurred_at < $2 AND ($3::text IS NULL OR coalesce(product, $3) = $3)
      AND ($4::text IS NULL OR coalesce(channel, $4) = $4)
    ORDER BY occurred_at DESC LIMIT $7
) e
GROUP BY product, channel, utc_day(occurred_at)
ORDER BY published_at DESC, product, channel
LIMIT $5;

-- daily: views that people made of all probes together, for pairs of a product and a channel ($1, $2), each null for any: the first UTC day
-- with a view, and those from $3 to before $4 with their views. What is nowhere viewed is left out.
WITH series AS MATERIALIZED (
    SELECT k.product, k.channel, p.name
    FROM unnest($1::text[], $2::text[]) k (product, channel)
    CROSS JOIN LATERAL (
        SELECT k.product AS name WHERE k.product IS NOT NULL
        UNION ALL
        SELECT DISTINCT product FROM popularity_series WHERE k.product IS NULL
    ) p
), days AS MATERIALIZED (  -- by keys, a product at a time, and once for all pairs
    SELECT h.product, h.channel, utc_day(h.hour) AS day, sum(h.found + h.missing)::float8 AS views
    FROM (SELECT DISTINCT name FROM series) p
    JOIN probe_hours h ON h.product = p.name AND h.probe = '' AND h.hour >= $3::date::timestamp AT TIME ZONE 'UTC'
     AND h.hour < $4::date::timestamp AT TIME ZONE 'UTC'
    WHERE NOT h.bot
    GROUP BY h.product, h.channel, day
), firsts AS (
    SELECT s.product, s.channel, utc_day(min(h.hour)) AS first_day
    FROM series s
    CROSS JOIN LATERAL (
        SELECT h.hour FROM probe_hours h
        WHERE h.product = s.name AND h.probe = '' AND NOT h.bot AND (s.channel IS NULL OR h.channel = s.channel)
        ORDER BY h.hour LIMIT 1
    ) h
    GROUP BY s.product, s.channel
)
SELECT f.product, f.channel, f.first_day, coalesce(array_agg(d.day) FILTER (WHERE d.day IS NOT NULL), '{}') AS days,
       coalesce(array_agg(d.views) FILTER (WHERE d.day IS NOT NULL), '{}') AS views
FROM firsts f
LEFT JOIN LATERAL (
    SELECT d.day, sum(d.views) AS views
    FROM series s JOIN days d ON d.product = s.name AND (s.channel IS NULL OR d.channel = s.channel)
    WHERE (s.product, s.channel) IS NOT DISTINCT FROM (f.product, f.channel)
    GROUP BY d.day
) d ON true
GROUP BY f.product, f.channel, f.first_day;
