-- walked: when the events occurred that are steps of a funnel, in each session that began in a time range and had the first of them; those
-- of visitors below the sample key $5. $1 since, $2 until, $3 product or null, $4 bots, $6 types of the steps, $7 their names or null.
-- `number` is that of all these sessions, told alone where none had the first step.
-- An event may be several steps: bit n of its mask says that it is the nth. Pages, probes and tools say what they are; the type of any
-- other event, and the control that it changed, is in the log.
WITH sampled AS MATERIALIZED (
    SELECT row_number() OVER () AS session, visitor, started_at, ended_at FROM sampled_sessions($1, $2, $3, $4, $5)
), steps AS MATERIALIZED (  -- what events of a type are whatever they name, and what those are that name something
    SELECT type, coalesce(bit_or(mask) FILTER (WHERE name IS NULL), 0) AS mask,
           array_agg(name) FILTER (WHERE name IS NOT NULL) AS names, array_agg(mask) FILTER (WHERE name IS NOT NULL) AS masks,
           CASE type WHEN 'page_viewed' THEN 'page' WHEN 'probe_viewed' THEN 'probe' WHEN 'link_followed' THEN 'tool' ELSE '' END AS kind
    FROM (
        SELECT type, name, bit_or(1 << (place - 1)::integer) AS mask
        FROM unnest($6::text[], $7::text[]) WITH ORDINALITY AS s (type, name, place)
        GROUP BY type, name
    ) s
    GROUP BY type
), session_events AS MATERIALIZED (
    SELECT s.session, j.occurred_at, j.event_id, j.kind, j.name
    FROM sampled s
    CROSS JOIN LATERAL (
        SELECT * FROM journey_events j
        WHERE j.visitor = s.visitor AND j.occurred_at BETWEEN s.started_at AND s.ended_at
          AND (j.product = $3 OR $3 IS NULL OR j.product IS NULL) AND coalesce(j.kind, '') = ANY (ARRAY(SELECT kind FROM steps))
        OFFSET 0  -- found session by session: the planner would read the whole table
    ) j
), typed AS (
    SELECT session, occurred_at, event_id, CASE kind WHEN 'page' THEN 'page_viewed' WHEN 'probe' THEN 'probe_viewed' ELSE 'link_followed' END AS type,
           name
    FROM session_events WHERE kind IS NOT NULL
    UNION ALL
    SELECT e.session, e.occurred_at, e.event_id, l.type, l.data ->> 'control'
    FROM session_events e
    CROSS JOIN LATERAL (SELECT l.type, l.data FROM event_log l WHERE l.event_id = e.event_id OFFSET 0) l
    WHERE e.kind IS NULL
), masked AS MATERIALIZED (
    SELECT t.session, t.occurred_at, t.event_id, s.mask | coalesce(s.masks[array_position(s.names, t.name)], 0) AS mask
    FROM typed t JOIN steps s USING (type)
)
SELECT s.number, w.masks, w.times
FROM (SELECT count(*) AS number FROM sampled) s
LEFT JOIN (
    SELECT array_agg(mask ORDER BY occurred_at, event_id) AS masks, array_agg(occurred_at ORDER BY occurred_at, event_id) AS times
    FROM masked WHERE mask <> 0 AND session IN (SELECT session FROM masked WHERE mask & 1 = 1)
    GROUP BY session
) w ON true;
