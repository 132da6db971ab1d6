-- begun: what is being filled and has nothing yet: its generation and settings. $1 the projection, $2 the stage.
SELECT generation, settings FROM projections WHERE name = $1 AND stage = $2 AND position = 0;

-- generations: those of all that is being filled and has nothing yet.
SELECT generation FROM projections WHERE stage <> 'live' AND position = 0;

-- source: where the mirror $1 begins, the position up to which it was found to have every event, and how many these are.
SELECT m.begins_after, mirror_verified_to(m.mirror) AS upto,
       (SELECT sum(l.events)::bigint FROM mirror_loads l WHERE l.mirror = m.mirror AND l.upto_position <= mirror_verified_to(m.mirror)) AS events
FROM mirrors m WHERE m.mirror = $1;

-- tools: the tools that people come from, by their hosts.
SELECT host, tool FROM tools;

-- rules: the settings of sessions.
SELECT settings FROM projections WHERE name = 'sessions' AND stage = 'live';

-- left_out: what the live projection $1 has set aside up to the position $2.
SELECT position, sqlstate, error, set_aside_at FROM dead_letters
WHERE projection = $1 AND stage = 'live' AND position <= $2 ORDER BY position;

-- hold: whether what is filled was held before it has anything; its tables are found by their names then. $1 the projection, $2 the stage.
SELECT lock_projection($1, $2) AND p.position = 0
       AND set_config('search_path', quote_ident(p.home) || ', public, pg_temp', true) IS NOT NULL
       AND set_config('synchronous_commit', 'on', true) IS NOT NULL
FROM projections p WHERE p.name = $1 AND p.stage = $2;

-- popularity_series: rows. $1 their JSON.
INSERT INTO popularity_series (series, product, probe, bot)
SELECT series, product, probe, bot FROM json_to_recordset($1::text::json) AS r (series bigint, product text, probe text, bot boolean);

-- popularity_visitors: rows. $1 their JSON.
INSERT INTO popularity_visitors (series, visitor, day, channel)
SELECT series, visitor, '2000-01-03'::date + day, channel
FROM json_to_recordset($1::text::json) AS r (series bigint, visitor uuid, day integer, channel text);

-- popularity_views: rows. $1 their JSON.
INSERT INTO popularity_views (days, first_day, series, channel, found, missing)
SELECT days, '2000-01-03'::date + first_day, series, channel, found, missing
FROM json_to_recordset($1::text::json)
    AS r (days smallint, first_day integer, series bigint, channel text, found integer, missing integer);

-- popularity_returns: rows. $1 their JSON.
INSERT INTO popularity_returns (series, channel, day, previous_day, visitors)
SELECT series, channel, '2000-01-03'::date + day, coalesce('2000-01-03'::date + previous_day, '-infinity'), visitors
FROM json_to_recordset($1::text::json)
    AS r (series bigint, channel text, day integer, previous_day integer, visitors integer);

-- session_counts: rows. $1 their JSON.
INSERT INTO session_counts (hour, product, bot, role, sessions)
SELECT to_timestamp(hour / 1000000), product, bot, role, sessions
FROM json_to_recordset($1::text::json) AS r (hour bigint, product text, bot boolean, role text, sessions integer);

-- sessions: rows. $1 their JSON. Names are sorted as this database does it. Seconds first: a float does not hold all microseconds.
INSERT INTO sessions (visitor, started_at, ended_at, events, bot, entry, exit, products, probes, controls, tools_left, came_from)
SELECT visitor, to_timestamp(started_at / 1000000) + started_at % 1000000 * interval '1 microsecond',
       to_timestamp(ended_at / 1000000) + ended_at % 1000000 * interval '1 microsecond', events, bot,
       CASE WHEN entry_id IS NOT NULL THEN
           ROW(to_timestamp(entry_at / 1000000) + entry_at % 1000000 * interval '1 microsecond', entry_id, entry_page, entry_referrer)::page_view END,
       CASE WHEN exit_id IS NOT NULL THEN
           ROW(to_timestamp(exit_at / 1000000) + exit_at % 1000000 * interval '1 microsecond', exit_id, exit_page, exit_referrer)::page_view END,
       CASE WHEN cardinality(products) > 1 THEN kept_names(products) ELSE products END,
       CASE WHEN cardinality(probes) > 1 THEN kept_names(probes) ELSE probes END,
       CASE WHEN cardinality(controls) > 1 THEN kept_names(controls) ELSE controls END,
       CASE WHEN cardinality(tools_left) > 1 THEN kept_names(tools_left) ELSE tools_left END, came_from
FROM json_to_recordset($1::text::json) AS r (
    visitor uuid, started_at bigint, ended_at bigint, events bigint, bot boolean,
    entry_at bigint, entry_id uuid, entry_page text, entry_referrer text,
    exit_at bigint, exit_id uuid, exit_page text, exit_referrer text,
    products text[], probes text[], controls text[], tools_left text[], came_from text);

-- leave_out: events that were left out are set aside. $1 the projection, $2 the stage, then of each: position, state, error, time.
INSERT INTO dead_letters (projection, stage, position, sqlstate, error, set_aside_at)
SELECT $1, $2, l.* FROM unnest($3::bigint[], $4::text[], $5::text[], $6::timestamptz[]) l;

-- take_up: what was left out and can be folded is folded, as a rebuild in PostgreSQL would. $1 the projection.
SELECT refold_dead_letters(find_projection($1, 'rebuild'), ARRAY(
    SELECT position FROM dead_letters JOIN event_log USING (position) WHERE projection = $1 AND stage = 'rebuild'));

-- reach: what is filled has every event up to the position $3. $1 the projection, $2 the stage.
SELECT pass_projection(p, $3, true), analyze_grown(p.home, p.tables) FROM projections p WHERE p.name = $1 AND p.stage = $2;
