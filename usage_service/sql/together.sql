-- viewed: the latest $5 visits of people to the probe $4 of the product $3, in sessions that began from $1 to before $2; the first $6
-- events of each of these sessions are read. A row of kind `session` says how many of them viewed so many (`number`) probes of the
-- product, $4 among them; a row of kind `probe` says in how many another probe was viewed. The row `cut` has the number of sessions with
-- more events, and when the first of all began and the last ended.
-- probe_hours has the visitors of each hour. A visitor's view in an hour is in a session that began in it, or in the latest one that
-- began before it. So the time depends on the number of visits, not on the number of sessions. Sessions keep names without products:
-- what was viewed in one of several products, or in one that is cut, is read from events.
WITH visits AS MATERIALIZED (
    SELECT h.hour, visitor
    FROM probe_hours h CROSS JOIN LATERAL unnest(h.visitors) AS visitor
    WHERE h.product = $3 AND h.probe = $4 AND h.hour > $1::timestamptz - interval '1 hour' AND h.hour < $2 AND NOT h.bot
    ORDER BY h.hour DESC, visitor LIMIT $5
), visited_sessions AS MATERIALIZED (
    SELECT DISTINCT ON (s.visitor, s.started_at) s.visitor, s.started_at, s.ended_at, s.events,
           CASE WHEN s.products = ARRAY[$3] AND s.events <= $6 AND names_beyond(s.probes) = 0 THEN s.probes END AS probes
    FROM visits v
    CROSS JOIN LATERAL sessions_of_visit(v.visitor, v.hour) s
    WHERE s.started_at >= $1 AND s.started_at < $2
), viewed AS MATERIALIZED (
    SELECT started_at, ended_at, probes FROM visited_sessions WHERE $4 = ANY (probes)
    UNION ALL
    SELECT s.started_at, s.ended_at, array_agg(DISTINCT e.name)
    FROM visited_sessions s
    CROSS JOIN LATERAL (
        SELECT kind, name, product FROM journey_events e
        WHERE e.visitor = s.visitor AND e.occurred_at >= s.started_at AND e.occurred_at <= s.ended_at
        ORDER BY e.occurred_at, e.event_id LIMIT $6
    ) e
    WHERE s.probes IS NULL AND e.kind = 'probe' AND e.product = $3
    GROUP BY s.visitor, s.started_at, s.ended_at HAVING bool_or(e.name = $4)
)
SELECT 'session' AS kind, NULL AS probe, cardinality(probes)::bigint AS number, count(*) AS sessions,
       NULL::timestamptz AS first, NULL::timestamptz AS last
FROM viewed GROUP BY cardinality(probes)
UNION ALL
SELECT 'probe', o.probe, NULL, count(*), NULL, NULL
FROM viewed v CROSS JOIN LATERAL unnest(v.probes) AS o (probe)
WHERE o.probe <> $4
GROUP BY o.probe
UNION ALL
SELECT 'cut', NULL, NULL, (SELECT count(*) FROM visited_sessions WHERE events > $6), min(started_at), max(ended_at) FROM viewed;
