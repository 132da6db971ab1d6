-- products: every product that a probe was registered or viewed of, the one with the most probes first.
SELECT product FROM (
    SELECT product, count(*) AS probes FROM catalogue GROUP BY product
    UNION ALL
    SELECT product, count(*) FROM popularity_series GROUP BY product
) p GROUP BY product ORDER BY sum(probes) DESC, product;

-- search: probes that are not hidden of a product ($1, or null for all) whose name contains $2 or is similar to it, those that begin with it first.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, coalesce(m.buildable, false) AS buildable
FROM catalogue c LEFT JOIN metric_types m USING (metric_type)
WHERE c.metric_type IS NOT NULL AND ($1::text IS NULL OR c.product = $1) AND (position(lower($2) IN lower(c.probe)) > 0 OR c.probe % $2)
  AND NOT EXISTS (SELECT FROM hidden_by(c.product, c.probe))
ORDER BY position(lower($2) IN lower(c.probe)) = 0, position(lower($2) IN lower(c.probe)), c.probe <-> $2, c.product, c.probe
LIMIT $3;

-- entry: one probe.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, coalesce(m.buildable, false) AND hiding.pattern IS NULL AS buildable, hiding.pattern AS hidden_by,
       c.definition -> 'labels' AS labels, c.details ->> 'description' AS description, c.details -> 'owners' AS owners,
       c.details ->> 'expires' AS expires, coalesce(c.details -> 'disabled' = 'true', false) AS disabled, c.details ->> 'link' AS link
FROM catalogue c LEFT JOIN metric_types m USING (metric_type)
     LEFT JOIN LATERAL (SELECT pattern FROM hidden_by(c.product, c.probe) LIMIT 1) hiding ON true
WHERE c.product = $1 AND c.probe = $2;

-- viewed_counts: how many probes of a product there are, and how many of them a person ever viewed.
SELECT count(*) AS probes, count(s.series) AS ever_viewed
FROM catalogue c LEFT JOIN popularity_series s ON s.product = c.product AND s.probe = c.probe AND NOT s.bot
WHERE c.product = $1 AND c.metric_type IS NOT NULL AND (c.retired_at IS NULL OR c.retired_at < c.described_at);

-- together: the probes of a product that people viewed in the sessions of a time range in which they viewed a given probe of it; at
-- the end, without a probe, how many of these sessions had more events than are read. $1 since, $2 until, $3 product, $4 probe, $5
-- limit, $6 how many visits to read, the latest first, $7 how many events of a session to read. probe_hours has the visitors of each
-- hour. A visitor's view in an hour is in a session that began in it, or in the latest one that began before it. So the time depends
-- on the number of visits, not on the number of sessions. Sessions keep names without products: what was viewed is read from events.
WITH visits AS MATERIALIZED (
    SELECT h.hour, visitor
    FROM probe_hours h CROSS JOIN LATERAL unnest(h.visitors) AS visitor
    WHERE h.product = $3 AND h.probe = $4 AND h.hour > $1::timestamptz - interval '1 hour' AND h.hour < $2 AND NOT h.bot
    ORDER BY h.hour DESC, visitor LIMIT $6
), visited_sessions AS (
    SELECT DISTINCT ON (s.visitor, s.started_at) s.visitor, s.started_at, s.ended_at, s.events
    FROM visits v
    CROSS JOIN LATERAL (
        SELECT * FROM sessions s
        WHERE s.visitor = v.visitor AND s.started_at >= v.hour AND s.started_at < v.hour + interval '1 hour'
        UNION ALL
        (SELECT * FROM sessions s WHERE s.visitor = v.visitor AND s.started_at < v.hour ORDER BY s.started_at DESC LIMIT 1)
    ) s
    WHERE s.ended_at >= v.hour AND s.started_at >= $1 AND s.started_at < $2 AND NOT s.bot
), viewed AS MATERIALIZED (
    SELECT DISTINCT s.visitor, s.started_at, s.events, e.name
    FROM visited_sessions s
    CROSS JOIN LATERAL (
        SELECT kind, name, product FROM journey_events e
        WHERE e.visitor = s.visitor AND e.occurred_at >= s.started_at AND e.occurred_at <= s.ended_at
        ORDER BY e.occurred_at, e.event_id LIMIT $7
    ) e
    WHERE e.kind = 'probe' AND e.product = $3
)
(SELECT o.name AS probe, count(*) AS sessions
 FROM viewed v JOIN viewed o USING (visitor, started_at)
 WHERE v.name = $4 AND o.name <> $4 AND NOT EXISTS (SELECT FROM hidden_by($3, o.name))
 GROUP BY o.name ORDER BY sessions DESC, o.name LIMIT $5)
UNION ALL
SELECT NULL, count(*) FROM visited_sessions WHERE events > $7;
