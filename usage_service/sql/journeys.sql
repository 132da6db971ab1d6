-- followed: steps that followed each other in the sessions that began in a time range: the $7 most frequent of each section. The number of
-- these sessions is in the section `sessions`.
-- $1 since, $2 until, $3 product or null, $4 bots, $5 the sample key below which visitors are read, $6 kinds of steps,
-- $7 limit, $8 steps of a path.
-- A step that is repeated counts once. At the same instant a page comes before the probe that it shows. A page that names the probe of
-- the step before or after it is that probe's own, not another step.
WITH sampled AS MATERIALIZED (
    SELECT visitor, started_at, ended_at FROM sampled_sessions($1, $2, $3, $4, $5)
), session_steps AS (
    SELECT s.visitor, s.started_at, j.occurred_at, j.event_id, j.kind, j.name
    FROM sampled s
    CROSS JOIN LATERAL (
        SELECT * FROM journey_events j
        WHERE j.visitor = s.visitor AND j.occurred_at BETWEEN s.started_at AND s.ended_at AND j.kind = ANY ($6::text[])
          AND (j.product = $3 OR $3 IS NULL OR j.product IS NULL)
        OFFSET 0  -- found session by session: the planner would read the whole table
    ) j
), steps_among_others AS (
    SELECT *, lag(name) OVER session AS name_before, lag(kind) OVER session = 'probe' AS is_after_probe,
           lead(name) OVER session AS name_after, lead(kind) OVER session = 'probe' AS is_before_probe
    FROM session_steps
    WINDOW session AS (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id)
), steps_with_previous AS (
    SELECT visitor, started_at, occurred_at, event_id, kind, kind || ' ' || name AS step,
           lag(kind || ' ' || name) OVER (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id) AS step_before
    FROM steps_among_others
    WHERE kind <> 'page' OR NOT (
        coalesce(is_after_probe AND name_before = ANY (string_to_array(name, '/')), false)
        OR coalesce(is_before_probe AND name_after = ANY (string_to_array(name, '/')), false))
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
SELECT section, steps, number, (number / total)::float8 AS share FROM sections
UNION ALL
SELECT 'sessions', NULL, count(*), NULL FROM sampled
ORDER BY section, number DESC, steps;
