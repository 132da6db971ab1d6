-- listed: sessions that began in a time range, latest first.
-- $1 since, $2 until, $3 product or null, $4 'exclude' | 'include' | 'only' bots, $5 limit; those after the session that began
-- at $6, of visitor $7, where given.
SELECT visitor, started_at, ended_at, events, bot, products[:most_names()] AS products, probes[:most_names()] AS probes,
       controls[:most_names()] AS controls, tools_left[:most_names()] AS tools_left,
       names_beyond(products) AS products_beyond, names_beyond(probes) AS probes_beyond,
       names_beyond(controls) AS controls_beyond, names_beyond(tools_left) AS tools_left_beyond,
       (entry).page AS first_page, (exit).page AS last_page, (entry).referrer AS referrer,
       came_from, role
FROM sessions
WHERE started_at >= $1 AND started_at < $2
  AND ($3::text IS NULL OR $3 = ANY (products))
  AND ($4 = 'include' OR bot = ($4 = 'only'))
  AND started_at <= coalesce($6, timestamptz 'infinity') AND (started_at < $6 OR visitor > $7) IS NOT FALSE
ORDER BY started_at DESC, visitor
LIMIT $5;

-- counted: the number of sessions that $1 to $4 match, as in `listed`, without a limit.
SELECT coalesce(sum(sessions), 0)::bigint FROM sessions_begun($1, $2, $3, $4);

-- one: the session of a visitor that began at an instant.
SELECT visitor, started_at, ended_at, events, bot, products[:most_names()] AS products, probes[:most_names()] AS probes,
       controls[:most_names()] AS controls, tools_left[:most_names()] AS tools_left,
       names_beyond(products) AS products_beyond, names_beyond(probes) AS probes_beyond,
       names_beyond(controls) AS controls_beyond, names_beyond(tools_left) AS tools_left_beyond,
       (entry).page AS first_page, (exit).page AS last_page, (entry).referrer AS referrer,
       came_from, role
FROM sessions
WHERE visitor = $1 AND started_at = $2;

-- timeline: the first $4 events of a visitor between two instants, both included; nulls for those that the log holds no more.
SELECT e.position, e.event_id, e.type, e.occurred_at, e.product, e.channel, e.probe, e.data
FROM (
    SELECT event_id FROM journey_events WHERE visitor = $1 AND occurred_at BETWEEN $2 AND $3
    ORDER BY occurred_at, event_id LIMIT $4
) j
LEFT JOIN event_log e USING (event_id)
ORDER BY e.occurred_at, e.event_id;

-- roles: how many of the sessions that began in a time range had each role in the workflow, by bucket of time.
-- $1 since, $2 until, $3 product or null, $4 bots, $5 length of a bucket. About $6 sessions are of visitors below `sample_key`.
SELECT date_bin($5, hour, '2001-01-01T00:00:00Z') AS start, role, sum(sessions)::bigint AS sessions,  -- a Monday
       sample_key_for($6, (sum(sum(sessions)) OVER ())::bigint) AS sample_key
FROM sessions_begun($1, $2, $3, $4)
GROUP BY 1, 2;

-- sample: how many sessions $1 to $4 match as in `listed`, and the sample key below which about $5 of them are.
SELECT b.sessions, b.sample_key, b.sample_key / (1::bigint << 32)::float8 AS share_of_visitors_read
FROM (
    SELECT coalesce(sum(sessions), 0)::bigint AS sessions, sample_key_for($5, coalesce(sum(sessions), 0)::bigint) AS sample_key
    FROM sessions_begun($1, $2, $3, $4)
) b;

-- summary: of the sessions of visitors below the sample key $5: in how many each name was used, the $6 most used names of each
-- kind; how many had each number of probes or controls (of many an estimate); percentiles (nearest rank) of length and depth; how
-- many had more names of a kind than are kept. $1 to $4 as in `listed`, $7 which percentiles.
WITH sampled AS MATERIALIZED (
    SELECT probes, controls, tools_left, came_from, (entry).referrer AS referrer, events,
           least(cardinality(probes), most_names()) + names_beyond(probes) AS probes_number,
           least(cardinality(controls), most_names()) + names_beyond(controls) AS controls_number,
           greatest(cardinality(probes), cardinality(controls), cardinality(tools_left)) > most_names() AS is_cut,
           extract(epoch FROM ended_at - started_at)::float8 AS seconds
    FROM sampled_sessions($1, $2, $3, $4, $5)
)
(SELECT 'probes' AS kind, name, count(*) AS sessions, row_number() OVER (ORDER BY count(*) DESC, name) AS rank,
        NULL::float8[] AS percentiles
 FROM (SELECT unnest(probes) AS name FROM sampled) used GROUP BY name ORDER BY rank LIMIT $6)
UNION ALL
(SELECT 'controls', name, count(*), row_number() OVER (ORDER BY count(*) DESC, name) AS rank, NULL
 FROM (SELECT unnest(controls) AS name FROM sampled) used GROUP BY name ORDER BY rank LIMIT $6)
UNION ALL
(SELECT 'tools_left', name, count(*), row_number() OVER (ORDER BY count(*) DESC, name) AS rank, NULL
 FROM (SELECT unnest(tools_left) AS name FROM sampled) used GROUP BY name ORDER BY rank LIMIT $6)
UNION ALL
(SELECT 'came_from', name, count(*), row_number() OVER (ORDER BY count(*) DESC, name) AS rank, NULL
 FROM (SELECT came_from AS name FROM sampled WHERE came_from IS NOT NULL) used GROUP BY name ORDER BY rank LIMIT $6)
UNION ALL
(SELECT 'referrers', name, count(*), row_number() OVER (ORDER BY count(*) DESC, name) AS rank, NULL
 FROM (SELECT referrer AS name FROM sampled WHERE referrer <> '') used GROUP BY name ORDER BY rank LIMIT $6)
UNION ALL
SELECT 'probes_a_session', number::text, count(*), number, NULL
FROM (SELECT probes_number AS number FROM sampled) had GROUP BY number
UNION ALL
SELECT 'controls_a_session', number::text, count(*), number, NULL
FROM (SELECT controls_number AS number FROM sampled) had GROUP BY number
UNION ALL
SELECT 'measure', 'seconds', count(*), NULL, percentile_disc($7::float8[]) WITHIN GROUP (ORDER BY seconds)::float8[]
FROM sampled
UNION ALL
SELECT 'measure', 'events', count(*), NULL, percentile_disc($7::float8[]) WITHIN GROUP (ORDER BY events)::float8[]
FROM sampled
UNION ALL
SELECT 'measure', 'probes', count(*), NULL, percentile_disc($7::float8[]) WITHIN GROUP (ORDER BY probes_number)::float8[]
FROM sampled
UNION ALL
SELECT 'measure', 'controls', count(*), NULL, percentile_disc($7::float8[]) WITHIN GROUP (ORDER BY controls_number)::float8[]
FROM sampled
UNION ALL
SELECT 'measure', 'cut', count(*) FILTER (WHERE is_cut), NULL, NULL FROM sampled
ORDER BY kind, rank;

-- typical: of the sessions of visitors below the sample key $5 that $1 to $4 match as in `listed`, the one whose length and depth are
-- nearest to their medians; the latest of several. Distances are ratios, so that a second counts much of a short session and little of a
-- long one.
WITH sampled AS MATERIALIZED (
    SELECT visitor, started_at, extract(epoch FROM ended_at - started_at)::float8 AS seconds, events,
           least(cardinality(probes), most_names()) + names_beyond(probes) AS probes,
           least(cardinality(controls), most_names()) + names_beyond(controls) AS controls
    FROM sampled_sessions($1, $2, $3, $4, $5)
), medians AS (
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds, percentile_disc(0.5) WITHIN GROUP (ORDER BY events) AS events,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY probes) AS probes, percentile_disc(0.5) WITHIN GROUP (ORDER BY controls) AS controls
    FROM sampled
)
SELECT s.visitor, s.started_at
FROM sampled s CROSS JOIN medians m
ORDER BY abs(ln((s.seconds + 1) / (m.seconds + 1))) + abs(ln((s.events + 1)::float8 / (m.events + 1)))
         + abs(ln((s.probes + 1)::float8 / (m.probes + 1))) + abs(ln((s.controls + 1)::float8 / (m.controls + 1))),
         s.started_at DESC, s.visitor
LIMIT 1;
