-- works with: 2
-- Functions, a type and a constraint get the names of the glossary: older programs call some of them by the old ones. Commits
-- of events become durable whatever is set, and whether events can be recorded can be asked.
--
-- Tables that are filled beside a projection hold the old names: what is filled is dropped and filled anew.
SELECT drop_projection(name, stage) FROM projections WHERE stage <> 'live';

ALTER TYPE page_mark RENAME TO page_view;
ALTER TABLE popularity_views RENAME CONSTRAINT span_is_of_days_or_weeks TO bucket_is_of_days_or_weeks;

ALTER FUNCTION take_left_jobs RENAME TO claim_orphaned_jobs;
ALTER FUNCTION stopped_jobs RENAME TO mark_jobs_stopped;
ALTER FUNCTION end_builds_by_etl RENAME TO cancel_builds_done_by_etl;
ALTER FUNCTION span_start RENAME TO bucket_start;
ALTER FUNCTION whole_spans RENAME TO whole_buckets;
ALTER FUNCTION window_spans RENAME TO window_buckets;
ALTER FUNCTION sample_mark RENAME TO sample_key;
ALTER FUNCTION mark_for RENAME TO sample_key_for;

CREATE OR REPLACE FUNCTION fold_popularity(after_position bigint, to_position bigint) RETURNS bigint
-- Whatever the planner believes of the tables: what is touched is found by its key, not by reading all.
LANGUAGE sql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off AS $$
    -- Numbered row by row: joined with numbers of the names, it would depend on what the planner believes of their number.
    WITH viewed AS MATERIALIZED (
        SELECT product, probe, data @> '{"bot": true}' AS bot, utc_day(occurred_at) AS day, coalesce(channel, '') AS channel,
               visitor, (data ->> 'found')::boolean AS found,
               series_number(product, probe, data @> '{"bot": true}') AS series
        FROM event_log
        WHERE position > after_position AND position <= to_position AND type = 'probe_viewed'
    ), new_series AS (
        INSERT INTO popularity_series (series, product, probe, bot)
        SELECT DISTINCT series, product, probe, bot FROM viewed
        WHERE series NOT IN (SELECT series FROM popularity_series)
    ), latest AS MATERIALIZED (
        SELECT max(first_day) AS day FROM popularity_views WHERE days = 1
    ),
    -- A visitor's days, each with their last day up to it and their next day after it, by whichever channel and by the same one.
    -- Each is found by its key and not joined.
    visitor_days AS MATERIALIZED (
        SELECT k.*,
               CASE WHEN before IS NOT NULL AND known IS NULL THEN (
                   SELECT v.day FROM popularity_visitors v
                   WHERE v.series = k.series AND v.visitor = k.visitor AND v.day < k.day AND v.channel = k.channel
                   ORDER BY v.day DESC LIMIT 1
               ) END AS same_before,
               CASE WHEN after IS NOT NULL AND known IS NULL THEN (
                   SELECT v.day FROM popularity_visitors v
                   WHERE v.series = k.series AND v.visitor = k.visitor AND v.day > k.day AND v.channel = k.channel
                   ORDER BY v.day LIMIT 1
               ) END AS same_after
        FROM (
            SELECT b.*,
                   CASE WHEN before = day THEN (
                       SELECT v.channel FROM popularity_visitors v
                       WHERE (v.series, v.visitor, v.day, v.channel) = (b.series, b.visitor, b.day, b.channel)
                   ) END AS known
            FROM (
                SELECT t.series, t.visitor, t.day, t.channel,
                       (
                           SELECT v.day FROM popularity_visitors v
                           WHERE v.series = t.series AND v.visitor = t.visitor AND v.day <= t.day ORDER BY v.day DESC LIMIT 1
                       ) AS before,
                       CASE WHEN t.day < (SELECT day FROM latest) THEN (
                           SELECT v.day FROM popularity_visitors v
                           WHERE v.series = t.series AND v.visitor = t.visitor AND v.day > t.day ORDER BY v.day LIMIT 1
                       ) END AS after
                FROM (SELECT DISTINCT series, visitor, day, channel FROM viewed WHERE visitor IS NOT NULL) t
                OFFSET 0  -- so that each is found once
            ) b
            OFFSET 0
        ) k
    ), new_visitors AS (
        INSERT INTO popularity_visitors (series, visitor, day, channel)
        SELECT series, visitor, day, channel FROM visitor_days WHERE known IS NULL
    ), placed AS MATERIALIZED (  -- those new on a day, by whichever channel and by each, among each other
        SELECT series, channel, day, after, coalesce(before, '-infinity') AS before,
               greatest(before, lag(day) OVER w, '-infinity') AS previous_day,
               coalesce(lead(day) OVER w > after, after IS NOT NULL) AS last_before_after
        FROM (
            SELECT DISTINCT series, visitor, '*' AS channel, day, before, after FROM visitor_days WHERE before IS DISTINCT FROM day
            UNION ALL
            SELECT series, visitor, channel, day, same_before, same_after FROM visitor_days WHERE known IS NULL AND channel <> ''
        ) t
        WINDOW w AS (PARTITION BY series, visitor, channel ORDER BY day)
    ), changes AS MATERIALIZED (
        SELECT series, channel, day, previous_day, sum(number)::integer AS number
        FROM (
            SELECT series, channel, day, previous_day, 1 AS number FROM placed
            UNION ALL SELECT series, channel, after, day, 1 FROM placed WHERE last_before_after
            UNION ALL SELECT series, channel, after, before, -1 FROM placed WHERE last_before_after
        ) c
        GROUP BY series, channel, day, previous_day HAVING sum(number) <> 0
    ), none_returned AS (
        DELETE FROM popularity_returns r USING changes c
        WHERE (r.series, r.channel, r.day, r.previous_day) = (c.series, c.channel, c.day, c.previous_day)
          AND c.number < 0 AND visitors + number = 0
    ), others_returned AS (
        UPDATE popularity_returns r SET visitors = visitors + number FROM changes c
        WHERE (r.series, r.channel, r.day, r.previous_day) = (c.series, c.channel, c.day, c.previous_day)
          AND visitors + number > 0
        RETURNING r.series, r.channel, r.day, r.previous_day
    ), first_returned AS (
        INSERT INTO popularity_returns (series, channel, day, previous_day, visitors)
        SELECT series, channel, day, previous_day, number FROM changes
        WHERE number > 0
          AND (series, channel, day, previous_day) NOT IN (SELECT series, channel, day, previous_day FROM others_returned)
    ),
    -- Views of days, and of weeks and more that ended before, or just now by the beginning of another week.
    daily AS MATERIALIZED (
        SELECT day, series, channel, count(*) FILTER (WHERE found) AS found, count(*) FILTER (WHERE NOT found) AS missing
        FROM viewed GROUP BY day, series, channel
    ), ended AS MATERIALIZED (
        SELECT n.days, bucket_start(bucket_start(l.day, 7), n.days) AS before_this,
               bucket_start(bucket_start(greatest(l.day, (SELECT max(day) FROM daily)), 7), n.days) AS before
        FROM latest l CROSS JOIN (VALUES (7), (28), (112)) n (days)
    ), buckets AS MATERIALIZED (
        SELECT 1 AS days, day AS first_day, series, channel, found, missing FROM daily
        UNION ALL
        SELECT e.days, bucket_start(d.day, e.days), d.series, d.channel, sum(d.found), sum(d.missing)
        FROM ended e CROSS JOIN LATERAL (
            SELECT * FROM daily WHERE day < e.before
            UNION ALL
            SELECT v.first_day, v.series, v.channel, v.found, v.missing FROM popularity_views v
            WHERE v.days = 1 AND v.first_day >= e.before_this AND v.first_day < e.before
        ) d
        GROUP BY 1, 2, 3, 4
    ), viewed_again AS (
        UPDATE popularity_views v SET found = v.found + s.found, missing = v.missing + s.missing FROM buckets s
        WHERE (v.days, v.first_day, v.series, v.channel) = (s.days, s.first_day, s.series, s.channel)
        RETURNING v.days, v.first_day, v.series, v.channel
    ), viewed_first AS (
        INSERT INTO popularity_views (days, first_day, series, channel, found, missing)
        SELECT days, first_day, series, channel, found, missing FROM buckets
        WHERE (days, first_day, series, channel) NOT IN (SELECT days, first_day, series, channel FROM viewed_again)
    )
    SELECT count(*) FROM daily
$$;

CREATE OR REPLACE FUNCTION whole_buckets(since date, until date, days integer, ended date, OUT first date, OUT beyond date)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN s.first < s.beyond THEN s.first ELSE until END, CASE WHEN s.first < s.beyond THEN s.beyond ELSE until END
    FROM (SELECT bucket_start(since + days - 1, days) AS first, bucket_start(least(until, ended), days) AS beyond) s
$$;

CREATE OR REPLACE FUNCTION window_buckets(first_day date, last_day date, OUT days integer, OUT since date, OUT until date) RETURNS SETOF record
LANGUAGE sql STABLE ROWS 7 AS $$
    SELECT s.*
    FROM (SELECT bucket_start(max(v.first_day), 7) AS week FROM popularity_views v WHERE v.days = 1) ended
    CROSS JOIN LATERAL whole_buckets(first_day, last_day + 1, 7, ended.week) a
    CROSS JOIN LATERAL whole_buckets(a.first, a.beyond, 28, ended.week) b
    CROSS JOIN LATERAL whole_buckets(b.first, b.beyond, 112, ended.week) c
    CROSS JOIN LATERAL (VALUES
        (1, first_day, a.first - 1), (7, a.first, b.first - 7), (28, b.first, c.first - 28), (112, c.first, c.beyond - 112),
        (28, c.beyond, b.beyond - 28), (7, b.beyond, a.beyond - 7), (1, a.beyond, last_day)
    ) s (days, since, until)
    WHERE s.since <= s.until
$$;

CREATE OR REPLACE FUNCTION fold_sessions(after_position bigint, to_position bigint) RETURNS bigint
-- Whatever the planner believes of the sessions: those touched are found by their key, not by reading all.
LANGUAGE sql SET enable_seqscan = off AS $$
    WITH batch AS MATERIALIZED (
        SELECT visitor, occurred_at, data @> '{"bot": true}' AS bot, product,  -- an x_ event may have anything there
               CASE type WHEN 'probe_viewed' THEN probe END AS probe,
               CASE type WHEN 'control_changed' THEN data ->> 'control' END AS control,
               CASE type WHEN 'link_followed' THEN data ->> 'tool' END AS tool,
               CASE type WHEN 'page_viewed' THEN
                   ROW(occurred_at, event_id, data ->> 'page', data ->> 'referrer')::page_view END AS page
        FROM event_log
        WHERE position > after_position AND position <= to_position AND visitor IS NOT NULL
          AND (type IN ('page_viewed', 'probe_searched', 'probe_viewed', 'control_changed', 'link_followed')
               OR type LIKE 'x\_%')
    ), reach AS (
        SELECT visitor, min(occurred_at) - (SELECT session_gap()) AS since,
               max(occurred_at) + (SELECT session_gap()) AS until
        FROM batch GROUP BY visitor
    ), touched AS MATERIALIZED (  -- one visitor's after another's: joined, all sessions could be read
        SELECT t.*
        FROM reach r
        CROSS JOIN LATERAL (
            SELECT s.ctid AS place, s.* FROM sessions s
            WHERE s.visitor = r.visitor AND s.ended_at > r.since AND (s.visitor, s.started_at) < (r.visitor, r.until)
              AND (s.visitor, s.started_at) >= (r.visitor, coalesce((
                  SELECT p.started_at FROM sessions p WHERE p.visitor = r.visitor AND (p.visitor, p.started_at) < (r.visitor, r.since)
                  ORDER BY p.visitor DESC, p.started_at DESC LIMIT 1
              ), r.since))
            OFFSET 0
        ) t
    ), pieces AS (
        SELECT visitor, occurred_at AS started_at, occurred_at AS ended_at, 1::bigint AS events, bot,
               page AS entry, page AS exit, product, probe, control, tool,
               NULL::text[] AS products, NULL::text[] AS probes, NULL::text[] AS controls, NULL::text[] AS tools_left,
               NULL::tid AS place
        FROM batch
        UNION ALL
        SELECT visitor, started_at, ended_at, events, bot, entry, exit, NULL, NULL, NULL, NULL,
               products, probes, controls, tools_left, place
        FROM touched
    ), starts AS (
        SELECT *, started_at >= (SELECT session_gap()) + max(ended_at) OVER (
            PARTITION BY visitor ORDER BY started_at, ended_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS after_pause
        FROM pieces
    ), numbered AS MATERIALIZED (
        SELECT *, count(*) FILTER (WHERE after_pause) OVER (
            PARTITION BY visitor ORDER BY started_at, ended_at ROWS UNBOUNDED PRECEDING
        ) AS session
        FROM starts
    ), merged AS (
        SELECT visitor, session, min(started_at) AS started_at, max(ended_at) AS ended_at, sum(events) AS events,
               bool_or(bot) AS bot, count(place) AS pieces,
               array_agg(product) FILTER (WHERE product IS NOT NULL) AS product_names,
               array_agg(probe) FILTER (WHERE probe IS NOT NULL) AS probe_names,
               array_agg(control) FILTER (WHERE control IS NOT NULL) AS control_names,
               array_agg(tool) FILTER (WHERE tool IS NOT NULL) AS tool_names,
               concatenated(products) FILTER (WHERE place IS NOT NULL) AS products,
               concatenated(probes) FILTER (WHERE place IS NOT NULL) AS probes,
               concatenated(controls) FILTER (WHERE place IS NOT NULL) AS controls,
               concatenated(tools_left) FILTER (WHERE place IS NOT NULL) AS tools_left
        FROM numbered GROUP BY visitor, session
    ), entries AS (
        SELECT DISTINCT ON (visitor, session) visitor, session, entry FROM numbered WHERE entry IS DISTINCT FROM NULL
        ORDER BY visitor, session, (entry).occurred_at, (entry).event_id
    ), exits AS (
        SELECT DISTINCT ON (visitor, session) visitor, session, exit FROM numbered WHERE exit IS DISTINCT FROM NULL
        ORDER BY visitor, session, (exit).occurred_at DESC, (exit).event_id DESC
    ), origins AS MATERIALIZED (
        SELECT referrer, referrer_host(referrer) AS host
        FROM (SELECT DISTINCT (entry).referrer FROM entries OFFSET 0) e  -- or the host is found for each session
        WHERE NOT coalesce((SELECT projection_setting('own_hosts')) ? referrer_host(referrer), false)
    ), named_origins AS MATERIALIZED (
        SELECT o.referrer, coalesce((
            SELECT t.tool FROM tools t WHERE o.host = t.host OR right(o.host, length(t.host) + 1) = '.' || t.host
            ORDER BY length(t.host) DESC LIMIT 1
        ), o.host) AS came_from
        FROM origins o
    ), resulting AS MATERIALIZED (  -- the sessions as they are now, with the row that each has already
        SELECT s.visitor, s.started_at, s.ended_at, s.events, s.bot, e.entry, x.exit,
               names_with(s.products, s.pieces < 2, s.product_names) AS products,
               names_with(s.probes, s.pieces < 2, s.probe_names) AS probes,
               names_with(s.controls, s.pieces < 2, s.control_names) AS controls,
               names_with(s.tools_left, s.pieces < 2, s.tool_names) AS tools_left,
               o.came_from, t.place, t.products AS old_products, t.bot AS old_bot, t.role AS old_role
        FROM merged s
        LEFT JOIN entries e USING (visitor, session)
        LEFT JOIN exits x USING (visitor, session)
        LEFT JOIN named_origins o ON o.referrer = (e.entry).referrer
        LEFT JOIN LATERAL (  -- by its key: joined with those touched, each would be compared with all where few are expected
            SELECT t.ctid AS place, t.products, t.bot, t.role FROM sessions t
            WHERE s.pieces > 0 AND (t.visitor, t.started_at) = (s.visitor, s.started_at) OFFSET 0
        ) t ON true
    ), deleted AS (
        DELETE FROM sessions WHERE ctid = ANY (ARRAY(SELECT place FROM touched EXCEPT SELECT place FROM resulting))
        RETURNING started_at, products, bot, role
    ), inserted AS (
        INSERT INTO sessions (visitor, started_at, ended_at, events, bot, entry, exit, products, probes, controls,
                              tools_left, came_from)
        SELECT visitor, started_at, ended_at, events, bot, entry, exit, products, probes, controls, tools_left, came_from
        FROM resulting WHERE place IS NULL
        RETURNING started_at, products, bot, role
    ), updated AS (
        UPDATE sessions s SET
            ended_at = w.ended_at, events = w.events, bot = w.bot, entry = w.entry, exit = w.exit, products = w.products,
            probes = w.probes, controls = w.controls, tools_left = w.tools_left, came_from = w.came_from
        FROM resulting w WHERE s.ctid = w.place
        RETURNING s.started_at, s.products, s.bot, s.role, w.old_products, w.old_bot, w.old_role
    ), recounted AS (
        SELECT * FROM updated WHERE (products, bot, role) <> (old_products, old_bot, old_role)
    ), changes AS MATERIALIZED (
        SELECT date_bin('1 hour', c.started_at, '2001-01-01T00:00:00Z') AS hour, p.product, c.bot, c.role, sum(c.number)::integer AS number
        FROM (
            SELECT started_at, products, bot, role, 1 AS number FROM inserted
            UNION ALL SELECT started_at, products, bot, role, -1 FROM deleted
            UNION ALL SELECT started_at, products, bot, role, 1 FROM recounted
            UNION ALL SELECT started_at, old_products, old_bot, old_role, -1 FROM recounted
        ) c
        CROSS JOIN LATERAL unnest(c.products || ''::text) p (product)
        GROUP BY 1, 2, 3, 4 HAVING sum(c.number) <> 0
    ), counted AS MATERIALIZED (
        SELECT c.*, known.place, known.sessions + c.number AS sessions
        FROM changes c
        LEFT JOIN LATERAL (
            SELECT n.ctid AS place, n.sessions FROM session_counts n
            WHERE (n.hour, n.product, n.bot, n.role) = (c.hour, c.product, c.bot, c.role) OFFSET 0
        ) known ON true
    ), none_left AS (
        DELETE FROM session_counts WHERE ctid = ANY (ARRAY(SELECT place FROM counted WHERE sessions = 0))
    ), counted_again AS (
        UPDATE session_counts n SET sessions = c.sessions FROM counted c WHERE n.ctid = c.place AND c.sessions > 0
    ), counted_first AS (
        INSERT INTO session_counts (hour, product, bot, role, sessions)
        SELECT hour, product, bot, role, number FROM counted WHERE place IS NULL
    )
    SELECT (SELECT count(*) FROM inserted) + (SELECT count(*) FROM updated)
$$;

DROP FUNCTION sample_bound(bigint);  -- its parameter has another name
CREATE FUNCTION sample_bound(sample_key bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(least(sample_key, 1::bigint << 32), 1) - 1), 8, '0') || '-ffff-ffff-ffff-ffffffffffff')::uuid
$$;
REVOKE ALL ON FUNCTION sample_bound FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sample_bound TO usage_server, usage_builder, usage_reader, usage_projections;

CREATE OR REPLACE FUNCTION request_build(
    for_product text, for_channel text, for_probe text, by_source text DEFAULT session_user, prefetch boolean DEFAULT false,
    in_trace text DEFAULT NULL,
    OUT outcome text, OUT build_id uuid, OUT metric_type text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    entry catalogue;
    found_build builds;
BEGIN
    SELECT * INTO entry FROM catalogue c WHERE c.product = for_product AND c.probe = for_probe;
    metric_type := entry.metric_type;
    IF entry.metric_type IS NULL THEN
        outcome := 'unknown';
        RETURN;
    ELSIF NOT coalesce((SELECT m.buildable FROM metric_types m WHERE m.metric_type = entry.metric_type), false) THEN
        outcome := 'unbuildable';
        RETURN;
    ELSIF is_excluded(for_probe) OR EXISTS (
        SELECT FROM hotlist_rules r WHERE r.product = for_product AND r.probe = for_probe AND r.rule = 'excluded'
    ) THEN
        outcome := 'excluded';
        RETURN;
    ELSIF prefetch AND entry.built_at >= fresh_since(for_product) THEN
        outcome := 'fresh';
        RETURN;
    END IF;
    LOOP
        SELECT * INTO found_build FROM builds b
        WHERE b.product = for_product AND b.channel = for_channel AND b.probe = for_probe
          AND (b.state IN ('queued', 'running')
               OR b.state IN ('succeeded', 'no_data') AND b.finished_at >= fresh_since(for_product))
        ORDER BY b.finished_at DESC NULLS FIRST LIMIT 1;
        IF FOUND THEN
            outcome := CASE WHEN found_build.finished_at IS NULL THEN 'pending' ELSE 'fresh' END;
            build_id := found_build.build_id;
            IF found_build.prefetched AND NOT prefetch AND found_build.state = 'queued' THEN
                UPDATE builds b SET prefetched = false, not_before = greatest(b.not_before, current_instant())
                WHERE b.build_id = found_build.build_id AND b.state = 'queued';
                PERFORM pg_notify('build_requested', found_build.build_id::text);
            END IF;
            RETURN;
        END IF;
        INSERT INTO builds AS b (
            product, channel, probe, metric_type, pings, definition, prefetched, not_before, requested_at, log_position,
            traceparent)
        VALUES (for_product, for_channel, for_probe, entry.metric_type, entry.pings, entry.definition, prefetch,
                current_instant(), current_instant(), 0, in_trace)
        ON CONFLICT (product, channel, probe) WHERE state IN ('queued', 'running') DO NOTHING
        RETURNING * INTO found_build;
        IF FOUND THEN
            outcome := 'created';
            build_id := found_build.build_id;
            UPDATE builds b SET log_position = record_transition(found_build, 'build_requested', by_source, '{}')
            WHERE b.build_id = found_build.build_id;
            PERFORM pg_notify('build_requested', found_build.build_id::text);
            RETURN;
        END IF;  -- else another session has just created it: read again
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION drop_events(exported event_log[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' AS $$
DECLARE
    dropped bigint;
    unfolded text;
BEGIN
    PERFORM pg_advisory_xact_lock(history_lock());
    SELECT format('projection %s (%s) is at position %s', p.name, p.stage, p.position) INTO unfolded
    FROM projections p WHERE p.position < (SELECT max(x.position) FROM unnest(exported) x) LIMIT 1;
    IF unfolded IS NOT NULL THEN
        RAISE EXCEPTION '%: it has not folded these events', unfolded USING ERRCODE = 'UB006';
    END IF;
    WITH deleted AS (
        DELETE FROM event_log e USING unnest(exported) x
        WHERE e.position = x.position AND fingerprint_event(e) = fingerprint_event(x)
        RETURNING e.event_id, e.digest, fingerprint_event(e) AS fingerprint, e.position
    )
    INSERT INTO dropped_events (event_id, digest, fingerprint, position) SELECT * FROM deleted;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    IF dropped <> cardinality(exported) THEN
        RAISE EXCEPTION 'the export is not what the log holds: % of % events are', dropped, cardinality(exported)
            USING ERRCODE = 'UB006';
    END IF;
    RETURN dropped;
END $$;

-- Commits of events are durable whatever the session is set to; and whether events can be recorded can be asked.
-- Held from before the first position is drawn to the commit, which is durable whatever the server, the role or the session is
-- set to: who waits for the lock is about to acknowledge something.
CREATE OR REPLACE FUNCTION lock_event_log() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM pg_advisory_xact_lock(x'676c616d'::bigint);  -- 'glam'
END $$;

-- Proves that events can be recorded: the lock can be had, and a write be made durable. Raises what keeps them from being so.
CREATE TABLE recording_probe (
    probed_at timestamptz NOT NULL
);
INSERT INTO recording_probe VALUES (clock_timestamp());

CREATE FUNCTION probe_recording() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', '1500ms', true);
    PERFORM lock_event_log();
    IF (SELECT last_value FROM event_position) < last_position() THEN
        RAISE EXCEPTION 'the sequence of positions is behind the log' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'SELECT setval(''event_position'', last_position())';
    END IF;
    UPDATE recording_probe SET probed_at = clock_timestamp();
END $$;
REVOKE ALL ON FUNCTION probe_recording FROM PUBLIC;
GRANT EXECUTE ON FUNCTION probe_recording TO usage_server;
GRANT SELECT ON recording_probe TO usage_server, usage_builder, usage_reader, usage_projections;
