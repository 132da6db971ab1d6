-- channels: how often people found a probe and missed it in a time range, by channel. $1 since, $2 until, $3 product, $4 probe.
SELECT nullif(h.channel, '') AS channel, sum(h.found) AS found, sum(h.missing) AS missing,
       max(h.hour) FILTER (WHERE h.missing > 0) AS last_missed
FROM probe_hours h
WHERE h.product = $3 AND h.probe = $4 AND h.hour >= $1 AND h.hour < $2 AND NOT h.bot
GROUP BY h.channel ORDER BY missing DESC, h.channel;

-- visitors: how many people viewed it in hours in which nobody found it. $1 to $4 as in `channels`; of hours with very many people
-- the first thousand are known.
SELECT count(DISTINCT visitor) FROM probe_hours h CROSS JOIN LATERAL unnest(h.visitors) AS visitor
WHERE h.product = $3 AND h.probe = $4 AND h.hour >= $1 AND h.hour < $2 AND NOT h.bot AND h.missing > 0 AND h.found = 0;

-- sessions: the latest sessions of these people at that time. $1 to $4 as in `channels`, $5 how many, $6 how many visits to read.
WITH visits AS MATERIALIZED (
    SELECT h.hour, visitor FROM probe_hours h CROSS JOIN LATERAL unnest(h.visitors) AS visitor
    WHERE h.product = $3 AND h.probe = $4 AND h.hour >= $1 AND h.hour < $2 AND NOT h.bot AND h.missing > 0 AND h.found = 0
    ORDER BY h.hour DESC, visitor LIMIT $6
)
SELECT DISTINCT s.started_at, s.visitor, extract(epoch FROM s.ended_at - s.started_at)::float8 AS seconds, s.events
FROM visits v
CROSS JOIN LATERAL sessions_of_visit(v.visitor, v.hour) s
WHERE EXISTS (SELECT FROM journey_events e WHERE e.visitor = s.visitor AND e.occurred_at >= s.started_at
              AND e.occurred_at <= s.ended_at AND e.kind = 'probe' AND e.name = $4 AND e.product = $3)
ORDER BY s.started_at DESC, s.visitor LIMIT $5;
