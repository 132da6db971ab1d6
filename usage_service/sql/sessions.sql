-- listed: sessions that began in a span of time, latest first.
-- $1 since, $2 until, $3 product or null, $4 'exclude' | 'include' | 'only' bots, $5 limit.
SELECT visitor, started_at, ended_at, events, bot, products, probes, controls, tools_left,
       (entry).page AS first_page, (exit).page AS last_page, (entry).referrer AS referrer,
       came_from, role
FROM sessions
WHERE started_at >= $1 AND started_at < $2
  AND ($3::text IS NULL OR $3 = ANY (products))
  AND ($4 = 'include' OR bot = ($4 = 'only'))
ORDER BY started_at DESC, visitor
LIMIT $5;

-- counted: how many sessions the same filters match without a limit.
SELECT count(*) FROM sessions
WHERE started_at >= $1 AND started_at < $2
  AND ($3::text IS NULL OR $3 = ANY (products))
  AND ($4 = 'include' OR bot = ($4 = 'only'));
