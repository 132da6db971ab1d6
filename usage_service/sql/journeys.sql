-- followed: what followed what in the sessions that began in a span: the $7 most frequent of each section.
-- $1 since, $2 until, $3 product or null, $4 bots, $5 the mark below which visitors are looked at, $6 kinds of steps,
-- $7 limit, $8 steps of a path.
-- A step that is repeated counts once. At the same instant a page comes before the probe that it shows.
WITH looked_at AS MATERIALIZED (
    SELECT visitor, started_at, ended_at
    FROM sessions
    WHERE started_at >= $1 AND started_at < $2 AND visitor <= sample_bound($5)
      AND ($3::text IS NULL OR $3 = ANY (products))
      AND ($4 = 'include' OR bot = ($4 = 'only'))
), taken AS (
    SELECT s.visitor, s.started_at, j.occurred_at, j.event_id, j.kind, j.kind || ' ' || j.name AS step
    FROM looked_at s
    CROSS JOIN LATERAL (
        SELECT * FROM journey_events j
        WHERE j.visitor = s.visitor AND j.occurred_at BETWEEN s.started_at AND s.ended_at AND j.kind = ANY ($6::text[])
          AND (j.product = $3 OR $3 IS NULL OR j.product IS NULL)
        OFFSET 0  -- found session by session: the planner would read all there are
    ) j
), after AS (
    SELECT *, lag(step) OVER (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id) AS step_before
    FROM taken
), steps AS MATERIALIZED (
    SELECT step, step_before, lead(step, 1) OVER session AS second, lead(step, 2) OVER session AS third,
           lead(step, 3) OVER session AS fourth, lead(step, 4) OVER session AS fifth
    FROM after WHERE step IS DISTINCT FROM step_before
    WINDOW session AS (PARTITION BY visitor, started_at ORDER BY occurred_at, kind, event_id)
), followed AS (
    (SELECT 'entries' AS section, ARRAY[step] AS steps, count(*) AS number, sum(count(*)) OVER () AS total
     FROM steps WHERE step_before IS NULL GROUP BY 2 ORDER BY number DESC, steps LIMIT $7)
    UNION ALL
    (SELECT 'exits', ARRAY[step], count(*) AS number, sum(count(*)) OVER ()
     FROM steps WHERE second IS NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
    UNION ALL
    (SELECT 'transitions', ARRAY[step, second], count(*) AS number, sum(count(*)) OVER ()
     FROM steps WHERE second IS NOT NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
    UNION ALL
    (SELECT 'paths', (ARRAY[step, second, third, fourth, fifth])[:$8], count(*) AS number, sum(count(*)) OVER ()
     FROM steps WHERE (ARRAY[step, second, third, fourth, fifth])[$8] IS NOT NULL GROUP BY 2 ORDER BY number DESC, 2 LIMIT $7)
)
SELECT section, steps, number, (number / total)::float8 AS share FROM followed ORDER BY section, number DESC, steps;

-- looked_at: how many sessions began in a span; the mark below which there are about $5, and how many those are.
WITH counted AS MATERIALIZED (
    SELECT sample_key_for($5, coalesce(sum(sessions), 0)::bigint) AS mark, coalesce(sum(sessions), 0)::bigint AS sessions
    FROM sessions_begun($1, $2, $3, $4)
)
SELECT c.sessions, c.mark, c.mark / (1::bigint << 32)::float8 AS visitors_looked_at, (
    SELECT count(*) FROM sessions
    WHERE started_at >= $1 AND started_at < $2 AND visitor <= sample_bound(c.mark)
      AND ($3::text IS NULL OR $3 = ANY (products))
      AND ($4 = 'include' OR bot = ($4 = 'only'))
) AS sessions_looked_at
FROM counted c;
