-- products: all that were registered for or viewed, that of the most probes first.
SELECT product FROM (
    SELECT product, count(*) AS probes FROM catalogue GROUP BY product
    UNION ALL
    SELECT product, count(*) FROM popularity_series GROUP BY product
) p GROUP BY product ORDER BY sum(probes) DESC, product;

-- search: probes of a product ($1, or null for all) whose name has $2 in it, or is like it: those that begin with it first.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, m.buildable AND NOT is_excluded(c.probe) AS buildable
FROM catalogue c JOIN metric_types m USING (metric_type)
WHERE ($1::text IS NULL OR c.product = $1) AND (position(lower($2) IN lower(c.probe)) > 0 OR c.probe % $2)
ORDER BY position(lower($2) IN lower(c.probe)) = 0, position(lower($2) IN lower(c.probe)), c.probe <-> $2, c.product, c.probe
LIMIT $3;

-- entry: one probe.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, coalesce(m.buildable, false) AND NOT is_excluded(c.probe) AS buildable
FROM catalogue c LEFT JOIN metric_types m USING (metric_type) WHERE c.product = $1 AND c.probe = $2;

-- looked_at: how many probes of a product there are, and how many a person ever looked at.
SELECT count(*) AS probes, count(s.series) AS ever_viewed
FROM catalogue c LEFT JOIN popularity_series s ON s.product = c.product AND s.probe = c.probe AND NOT s.bot
WHERE c.product = $1 AND c.metric_type IS NOT NULL AND (c.retired_at IS NULL OR c.retired_at < c.described_at);

-- together: what people viewed in the sessions of a span in which they viewed a probe. $1 since, $2 until, $3 product,
-- $4 probe, $5 limit, $6 how many visits to look at, the latest. Who viewed it in an hour is known, and each has one session
-- that had begun before that hour, if any, and those that began in it: so it takes as long for a probe that is rarely viewed.
WITH visits AS MATERIALIZED (
    SELECT h.hour, visitor
    FROM probe_hours h CROSS JOIN LATERAL unnest(h.visitors) AS visitor
    WHERE h.product = $3 AND h.probe = $4 AND h.hour > $1::timestamptz - interval '1 hour' AND h.hour < $2 AND NOT h.bot
    ORDER BY h.hour DESC, visitor LIMIT $6
), visited AS (
    SELECT DISTINCT ON (s.visitor, s.started_at) s.probes
    FROM visits v
    CROSS JOIN LATERAL (
        SELECT * FROM sessions s
        WHERE s.visitor = v.visitor AND s.started_at >= v.hour AND s.started_at < v.hour + interval '1 hour'
        UNION ALL
        (SELECT * FROM sessions s WHERE s.visitor = v.visitor AND s.started_at < v.hour ORDER BY s.started_at DESC LIMIT 1)
    ) s
    WHERE s.ended_at >= v.hour AND s.started_at >= $1 AND s.started_at < $2 AND NOT s.bot AND s.probes @> ARRAY[$4]
)
SELECT other AS probe, count(*) AS sessions
FROM visited CROSS JOIN LATERAL unnest(probes) AS other
WHERE other <> $4
GROUP BY other ORDER BY sessions DESC, other LIMIT $5;
