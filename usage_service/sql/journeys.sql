-- followed: steps that followed each other in the sessions that began in a time range: the $7 most frequent of each section.
-- $1 since, $2 until, $3 product or null, $4 bots, $5 the sample key below which visitors are read, $6 kinds of steps,
-- $7 limit, $8 steps of a path.
-- A step that is repeated counts once. At the same instant a page comes before the probe that it shows.
WITH sampled_sessions AS MATERIALIZED (
    SELECT visitor, started_at, ended_at
    FROM sessions
    WHERE started_at >= $1 AND started_at < $2 AND visitor <= sample_bound($5)
      AND ($3::text IS NULL OR $3 = ANY (products))
      AND ($4 = 'include' OR bot = ($4 = 'only'))
), session_steps AS (
    SELECT s.visitor, s.started_at, j.occurred_at, j.event_id, j.kind, j.kind || ' ' || j.name AS step
    FROM sampled_sessions s
    CROSS JOIN LATERAL (
        SELECT * FROM journey_events j
        WHERE j.visitor = s.visitor AND j.occurred_at BETWEEN s.started_at AND s.ended_at AND j.kind = ANY ($6::text[])
          AND (j.product = $3 OR $3 IS NULL OR j.product IS NULL)
        OFFSET 0  -- found session by session: the planner would read the whole table
    ) j
), steps_with_previous AS (
    SELECT *, lag(step) OVER (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id) AS step_before
    FROM session_steps
), distinct_steps AS MATERIALIZED (
    SELECT step, step_before, lead(step, 1) OVER session AS second, lead(step, 2) OVER session AS third,
           lead(step, 3) OVER session AS fourth, lead(step, 4) OVER session AS fifth
    FROM steps_with_previous WHERE step IS DISTINCT FROM step_before
    WINDOW session AS (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id)
), sections AS (
    (SELECT 'entries' AS section, ARRAY[step] AS steps, count(*) AS number, sum(count(*)) OVER () AS total
     FROM distinct_steps WHERE step_before IS NULL GROUP BY 2 ORDER BY number DESC, steps LIMIT $7)
    UNION ALL
    (SELECT 'exits', ARRAY[step], count(*) AS number, sum(count(*)) OVER ()
     FROM distinct_steps WHERE second IS NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
    UNION ALL
    (SELECT 'transitions', ARRAY[step, second], count(*) AS number, sum(count(*)) OVER ()
     FROM distinct_steps WHERE second IS NOT NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
    UNION ALL
    (SELECT 'paths', (ARRAY[step, second, third, fourth, fifth])[:$8], count(*) AS number, sum(count(*)) OVER ()
     FROM distinct_steps WHERE (ARRAY[step, second, third, fourth, fifth])[$8] IS NOT NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
)
SELECT section, steps, number, (number / total)::float8 AS share FROM sections ORDER BY section, number DESC, steps;

-- sample: the number of sessions that began in a time range, the sample key below which there are about $5, and their number.
WITH all_sessions AS MATERIALIZED (
    SELECT sample_key_for($5, coalesce(sum(sessions), 0)::bigint) AS sample_key, coalesce(sum(sessions), 0)::bigint AS sessions
    FROM sessions_begun($1, $2, $3, $4)
)
SELECT a.sessions, a.sample_key, a.sample_key / (1::bigint << 32)::float8 AS visitors_looked_at, (
    SELECT count(*) FROM sessions
    WHERE started_at >= $1 AND started_at < $2 AND visitor <= sample_bound(a.sample_key)
      AND ($3::text IS NULL OR $3 = ANY (products))
      AND ($4 = 'include' OR bot = ($4 = 'only'))
) AS sessions_looked_at
FROM all_sessions a;
