-- works with: 2
-- What programs of versions 2 to 4 call has the same names and answers: they go on beside those of version 5.

-- Folding.
-- Names of which there are too many are kept by their hashes, so that one more costs as little as the first. Who folds ends first.
SELECT count(*) FROM (SELECT FROM projections p WHERE p.name IN ('catalogue', 'sessions') ORDER BY p.name, p.stage FOR NO KEY UPDATE) held;
-- Folds the next batch of several live projections in one transaction, those that are more than a batch behind the foremost and those
-- that somebody else moves left out. One look at the log tells which types of events there are, and who has nothing to do.
CREATE FUNCTION advance_together(projection_names text[], batch_size integer)
RETURNS TABLE (name text, was_at bigint, now_at bigint, log_end bigint, set_aside bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_log bigint := last_position();
    held projections[] := ARRAY(  -- none where there is nothing to do: to hold a row is to write to it
        SELECT p FROM projections p WHERE p.stage = 'live' AND p.name = ANY (projection_names) AND p.position < of_log
        FOR NO KEY UPDATE SKIP LOCKED
    );
    foremost bigint := (SELECT max(h.position) FROM unnest(held) h);
    target bigint := least(foremost + batch_size, of_log);
    moving projections[] := ARRAY(SELECT h FROM unnest(held) h WHERE h.position > foremost - batch_size AND h.position < target);
    types text[];
    moved projections;
BEGIN
    types := ARRAY(
        SELECT DISTINCT e.type FROM event_log e
        WHERE e.position > (SELECT min(m.position) FROM unnest(moving) m) AND e.position <= target
    );
    FOREACH moved IN ARRAY moving LOOP
        IF folded_types(moved.name) && types IS NOT FALSE THEN
            PERFORM fold_projection(moved, target);
        ELSE
            PERFORM pass_projection(moved, target, false);
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT p.name, coalesce(m.position, p.position), p.position, of_log, (
        SELECT count(*) FROM dead_letters d
        WHERE d.projection = p.name AND d.stage = 'live' AND d.position > m.position AND d.position <= p.position
    )
    FROM projections p LEFT JOIN unnest(moving) m ON m.name = p.name
    WHERE p.stage = 'live' AND p.name = ANY (projection_names);
END $$;
-- The types of events that a projection folds: null where they cannot be listed.
CREATE FUNCTION folded_types(projection text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE projection
        WHEN 'build_costs' THEN '{build_succeeded,build_found_no_data}'::text[]
        WHEN 'catalogue' THEN '{probe_registered,probe_retired,probe_built}'
        WHEN 'popularity' THEN '{probe_viewed}'
        WHEN 'releases' THEN '{release_published,release_retracted,revision_published}'
        WHEN 'timeseries' THEN '{probe_viewed}'
    END
$$;
-- Folds up to a position, for who holds the projection's lock. Answers where it is then. A verification leaves out what the
-- live projection has set aside.
CREATE OR REPLACE FUNCTION fold_projection(of_projection projections, to_position bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    after_position bigint := of_projection.position;
    ranges int8multirange := int8multirange(int8range(after_position, greatest(after_position, to_position), '(]'));
BEGIN
    IF to_position <= after_position THEN
        RETURN after_position;
    END IF;
    IF of_projection.stage = 'verify' THEN
        WITH left_out AS (
            INSERT INTO dead_letters
            SELECT d.projection, 'verify', d.position, d.sqlstate, d.error, d.set_aside_at FROM dead_letters d
            WHERE d.projection = of_projection.name AND d.stage = 'live' AND d.position > after_position AND d.position <= to_position
            RETURNING position
        )
        SELECT ranges - coalesce(range_agg(int8range(l.position, l.position, '[]')), '{}') INTO ranges FROM left_out l;
    END IF;
    PERFORM pass_projection(of_projection, to_position, fold_ranges(of_projection, ranges));
    PERFORM analyze_grown(of_projection.home, of_projection.tables), analyze_grown('public', '{event_log,visitor_keys}');
    RETURN to_position;
END $$;
-- Notes that every event up to a position is folded.
CREATE FUNCTION pass_projection(of_projection projections, to_position bigint, has_changed boolean) RETURNS void
LANGUAGE sql SET search_path = public, pg_temp AS $$
    UPDATE projections p SET
        position = to_position, updated_at = clock_timestamp(), failed_at = NULL, failed_after = NULL, error = NULL,
        changed_at = CASE WHEN has_changed THEN to_position ELSE p.changed_at END
    WHERE p.name = of_projection.name AND p.stage = of_projection.stage
$$;
-- Has the planner look at tables that grew eightfold since it last did, so that what is planned while they are empty does not stay:
-- autovacuum comes a minute later, and sessions keep their plans until somebody has come. A table that somebody is at is left out.
-- It is a short look, a tenth of autovacuum's: an event waits for it.
CREATE FUNCTION analyze_grown(in_schema text, of_tables text[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp SET default_statistics_target = 10 AS $$
DECLARE
    grown regclass;
BEGIN
    FOR grown IN
        SELECT c.oid FROM pg_class c
        WHERE c.relnamespace = in_schema::regnamespace AND c.relname = ANY (of_tables) AND c.relkind = 'r'
          AND pg_relation_size(c.oid) / current_setting('block_size')::integer > 8 * c.relpages + 10
    LOOP
        EXECUTE format('ANALYZE (SKIP_LOCKED) %s', grown);
    END LOOP;
END $$;
-- The names kept so far, and those that come to them. What a name costs does not depend on how many there are: where there are too
-- many, the last of them tells of most that they do not belong, and others are put where they belong by halves.
CREATE FUNCTION add_names(known text[], names text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    kept text[] := known;
    number integer := cardinality(known);
    name text;
    hash float8;
    place integer;
    beyond integer;
    middle integer;
BEGIN
    FOREACH name IN ARRAY coalesce(names, '{}') LOOP
        IF number <= most_names() THEN
            place := width_bucket(name, kept);
            CONTINUE WHEN place > 0 AND kept[place] = name;
            kept := kept[:place] || name || kept[place + 1:];
            number := number + 1;
            IF number > most_names() THEN
                kept := ARRAY(SELECT k.name FROM unnest(kept) k (name) ORDER BY name_hash(k.name), k.name);
            END IF;
        ELSE
            hash := name_hash(name);
            CONTINUE WHEN (hash, name) >= (name_hash(kept[number]), kept[number]);
            place := 0;
            beyond := number;
            WHILE beyond - place > 1 LOOP
                middle := (place + beyond) / 2;
                IF (hash, name) < (name_hash(kept[middle]), kept[middle]) THEN beyond := middle; ELSE place := middle; END IF;
            END LOOP;
            CONTINUE WHEN place > 0 AND kept[place] = name;
            kept := kept[:place] || name || kept[place + 1:number - 1];
        END IF;
    END LOOP;
    RETURN kept;
END $$;
-- The names to keep, each once: sorted where there are not too many, else those with the least hashes, by hash. They are the same
-- ones in whatever order they come, and a fair sample.
CREATE OR REPLACE FUNCTION kept_names(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT add_names('{}', names) $$;
-- About how many names there are beyond the most that are told: of hashes that are spread evenly the one after the most_names()
-- least is where it is because there are so many. One in three estimates is off by more than a tenth.
CREATE OR REPLACE FUNCTION names_beyond(kept text[]) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(kept) <= most_names() THEN 0
        ELSE greatest(1, least(round(most_names() / name_hash(kept[most_names() + 1])) - most_names(), 1000000000))::integer END
$$;
-- The names of a session, if there is one yet, and those that come to it: nearly always none that is new.
CREATE FUNCTION names_with(known text[], names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN names IS NULL OR names <@ known THEN coalesce(known, '{}') ELSE add_names(coalesce(known, '{}'), names) END
$$;
-- The events of the batch and the sessions they could touch are pieces; pieces less than a gap apart are one session.
-- Adding an event can extend or merge sessions, never split one, so nothing but the sessions themselves is read again.
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
            SELECT s.ctid AS place, s.visitor, s.started_at, s.ended_at, s.events, s.bot, s.entry, s.exit FROM sessions s
            WHERE s.visitor = r.visitor AND s.ended_at > r.since AND (s.visitor, s.started_at) < (r.visitor, r.until)
              AND (s.visitor, s.started_at) >= (r.visitor, coalesce((
                  SELECT p.started_at FROM sessions p WHERE p.visitor = r.visitor AND (p.visitor, p.started_at) < (r.visitor, r.since)
                  ORDER BY p.visitor DESC, p.started_at DESC LIMIT 1
              ), r.since))
            OFFSET 0
        ) t
    ), pieces AS (
        SELECT visitor, occurred_at AS started_at, occurred_at AS ended_at, 1::bigint AS events, bot, page AS entry, page AS exit,
               product, probe, control, tool, NULL::tid AS place
        FROM batch
        UNION ALL
        SELECT visitor, started_at, ended_at, events, bot, entry, exit, NULL, NULL, NULL, NULL, place FROM touched
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
        SELECT visitor, session, min(started_at) AS started_at, max(ended_at) AS ended_at, sum(events) AS events, bool_or(bot) AS bot,
               array_agg(product) FILTER (WHERE product IS NOT NULL) AS products,
               array_agg(probe) FILTER (WHERE probe IS NOT NULL) AS probes,
               array_agg(control) FILTER (WHERE control IS NOT NULL) AS controls,
               array_agg(tool) FILTER (WHERE tool IS NOT NULL) AS tools_left,
               array_agg(place ORDER BY started_at) FILTER (WHERE place IS NOT NULL) AS places
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
    ), resulting AS MATERIALIZED (  -- the sessions as they are now, with the row that each goes on in: the earliest of those it joins
        SELECT s.visitor, s.started_at, s.ended_at, s.events, s.bot, e.entry, x.exit,
               names_with(t.products, s.products || o.products) AS products, names_with(t.probes, s.probes || o.probes) AS probes,
               names_with(t.controls, s.controls || o.controls) AS controls,
               names_with(t.tools_left, s.tools_left || o.tools_left) AS tools_left,
               n.came_from, s.places[1] AS place,
               t.started_at AS old_started_at, t.products AS old_products, t.bot AS old_bot, t.role AS old_role
        FROM merged s
        LEFT JOIN entries e USING (visitor, session)
        LEFT JOIN exits x USING (visitor, session)
        LEFT JOIN named_origins n ON n.referrer = (e.entry).referrer
        LEFT JOIN LATERAL (SELECT * FROM sessions k WHERE k.ctid = s.places[1] OFFSET 0) t ON true
        LEFT JOIN LATERAL (
            SELECT concatenated(j.products) AS products, concatenated(j.probes) AS probes, concatenated(j.controls) AS controls,
                   concatenated(j.tools_left) AS tools_left
            FROM sessions j WHERE cardinality(s.places) > 1 AND j.ctid = ANY (s.places[2:])
        ) o ON cardinality(s.places) > 1
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
            started_at = w.started_at, ended_at = w.ended_at, events = w.events, bot = w.bot, entry = w.entry, exit = w.exit,
            products = w.products, probes = w.probes, controls = w.controls, tools_left = w.tools_left, came_from = w.came_from
        FROM resulting w WHERE s.ctid = w.place
        RETURNING s.started_at, s.products, s.bot, s.role, w.old_started_at, w.old_products, w.old_bot, w.old_role
    ), recounted AS (
        SELECT * FROM updated WHERE (started_at, products, bot, role) <> (old_started_at, old_products, old_bot, old_role)
    ), changes AS MATERIALIZED (
        SELECT date_bin('1 hour', c.started_at, '2001-01-01T00:00:00Z') AS hour, p.product, c.bot, c.role, sum(c.number)::integer AS number
        FROM (
            SELECT started_at, products, bot, role, 1 AS number FROM inserted
            UNION ALL SELECT started_at, products, bot, role, -1 FROM deleted
            UNION ALL SELECT started_at, products, bot, role, 1 FROM recounted
            UNION ALL SELECT old_started_at, old_products, old_bot, old_role, -1 FROM recounted
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
CREATE OR REPLACE FUNCTION fold_journeys(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH written AS (
        INSERT INTO journey_events (visitor, occurred_at, event_id, kind, name, product)
        SELECT visitor, occurred_at, event_id,
               CASE type WHEN 'page_viewed' THEN 'page' WHEN 'probe_viewed' THEN 'probe' WHEN 'link_followed' THEN 'tool' END,
               CASE type WHEN 'page_viewed' THEN data ->> 'page' WHEN 'probe_viewed' THEN probe
                         WHEN 'link_followed' THEN data ->> 'tool' END,
               product
        FROM event_log
        WHERE position > after_position AND position <= to_position AND visitor IS NOT NULL
          AND (type IN ('page_viewed', 'probe_searched', 'probe_viewed', 'control_changed', 'link_followed')
               OR type LIKE 'x\_%')
        ORDER BY visitor, occurred_at, event_id  -- what is read together lies together
        RETURNING 1
    )
    SELECT count(*) FROM written
$$;
CREATE AGGREGATE concatenated(uuid[]) (SFUNC = array_cat, STYPE = uuid[], PARALLEL = SAFE);
-- Visitors are put in their places among those of the row, so that what a row costs depends little on how many it has.
CREATE OR REPLACE FUNCTION fold_timeseries(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH views AS MATERIALIZED (
        SELECT product, probe, date_bin('1 hour', occurred_at, '2000-01-01T00:00:00Z') AS hour,
               coalesce(channel, '') AS channel, data @> '{"bot": true}' AS bot, visitor,
               count(*) FILTER (WHERE (data -> 'found')::boolean) AS found, count(*) AS views
        FROM event_log
        WHERE position > after_position AND position <= to_position AND type = 'probe_viewed'
        GROUP BY 1, 2, 3, 4, 5, 6
    ), totals AS (
        SELECT product, '' AS probe, hour, channel, bot, visitor, sum(found) AS found, sum(views) AS views
        FROM views GROUP BY product, hour, channel, bot, visitor
    ), written AS (
        INSERT INTO probe_hours AS h (product, probe, hour, channel, bot, found, missing, visitors)
        SELECT product, probe, hour, channel, bot, sum(found), sum(views - found),
               coalesce((array_agg(visitor ORDER BY visitor) FILTER (WHERE visitor IS NOT NULL))[:1000], '{}')
        FROM (SELECT * FROM views UNION ALL SELECT * FROM totals) v
        GROUP BY product, probe, hour, channel, bot
        ON CONFLICT (product, probe, hour, channel, bot) DO UPDATE SET
            found = h.found + excluded.found, missing = h.missing + excluded.missing,
            visitors = (
                SELECT coalesce((
                    SELECT (concatenated(k.visitors[n.after + 1 : n.place] || n.visitor ORDER BY n.visitor)
                            || k.visitors[max(n.place) + 1 :])[:1000]
                    FROM (
                        SELECT p.visitor, p.place, lag(p.place, 1, 0) OVER (ORDER BY p.visitor) AS after
                        FROM (SELECT v AS visitor, width_bucket(v, k.visitors) AS place FROM unnest(excluded.visitors) v OFFSET 0) p
                        WHERE p.place = 0 OR (p.place < 1000 AND k.visitors[p.place] <> p.visitor)
                    ) n
                ), h.visitors)
                FROM (SELECT h.visitors || '{}' AS visitors OFFSET 0) k  -- read once, not for each of them
            )
        RETURNING 1
    )
    SELECT count(*) FROM written
$$;
REVOKE ALL ON FUNCTION advance_together, folded_types, pass_projection, analyze_grown, add_names, names_with(text[], text[]),
    concatenated(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION advance_together TO usage_server;
DROP FUNCTION names_with(text[], boolean, text[]);
DO $$
DECLARE
    filled projections;
BEGIN
    FOR filled IN SELECT * FROM projections p WHERE p.name IN ('catalogue', 'sessions', 'timeseries') LOOP
        IF filled.name = 'timeseries' THEN  -- pseudonyms are random: to try to compress them is lost time
            EXECUTE format('ALTER TABLE %I.probe_hours ALTER COLUMN visitors SET STORAGE EXTERNAL', filled.home);
        ELSIF filled.name = 'catalogue' THEN
            EXECUTE format('UPDATE %I.catalogue SET pings = kept_names(pings) WHERE cardinality(pings) > most_names()', filled.home);
        ELSE
            EXECUTE format(
                'UPDATE %I.sessions SET products = kept_names(products), probes = kept_names(probes), controls = kept_names(controls),
                                        tools_left = kept_names(tools_left)
                 WHERE greatest(cardinality(products), cardinality(probes), cardinality(controls), cardinality(tools_left)) > most_names()',
                filled.home);
        END IF;
    END LOOP;
END $$;


-- Marks: the events of a type that an operator compares views before and after of, found without reading the log.
CREATE INDEX marks ON event_log (type, occurred_at)
    WHERE type <> ALL ('{page_viewed,probe_searched,probe_viewed,control_changed,link_followed}');

-- Units of probes.
CREATE OR REPLACE FUNCTION probe_details(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(data)
    WHERE key IN ('description', 'owners', 'expires', 'disabled', 'link', 'time_unit', 'memory_unit', 'unit') AND value <> 'null'
$$;

-- Mirrors.
-- Mirrors of the log: a table of BigQuery that has every event, a range of positions a load. A load is planned
-- before its job is sent, and the job's id is derived from it: whoever comes after a kill plans nothing new, and finds the job of before.

CREATE TABLE mirrors (
    mirror       text        PRIMARY KEY,  -- project.dataset
    series       uuid        NOT NULL DEFAULT gen_random_uuid(),  -- with a load's positions, names its job: another one, other jobs
    begins_after bigint      NOT NULL,     -- what was dropped from the log before that is in files alone
    failures     integer     NOT NULL DEFAULT 0,  -- since a load last ended, or was verified
    error        jsonb,                    -- {code, message} of the last one
    waits_for    text,                     -- the limit of BigQuery's that the next load waits for
    CONSTRAINT failures_have_an_error CHECK ((failures > 0) = (error IS NOT NULL))
);

CREATE TABLE mirror_loads (
    mirror         text        NOT NULL REFERENCES mirrors ON DELETE CASCADE,
    after_position bigint      NOT NULL,
    upto_position  bigint      NOT NULL,
    events         bigint      NOT NULL,
    partitions     integer     NOT NULL,  -- days that it has events of
    first_day      date        NOT NULL,
    last_day       date        NOT NULL,
    digest         text,                  -- of its events in the log; once it has ended
    bytes          bigint,                -- of its file
    planned_at     timestamptz NOT NULL,
    loaded_at      timestamptz,
    verified_at    timestamptz,           -- when the mirror was found to have just these events
    differs        text,                  -- what it was found to have instead
    PRIMARY KEY (mirror, after_position),
    CONSTRAINT load_has_positions CHECK (upto_position > after_position),
    CONSTRAINT load_has_events CHECK (events BETWEEN 1 AND upto_position - after_position),
    CONSTRAINT loaded_has_a_digest CHECK ((loaded_at IS NULL) = (digest IS NULL)),
    CONSTRAINT verified_was_loaded CHECK (verified_at IS NULL OR (loaded_at IS NOT NULL AND differs IS NULL))
);
CREATE UNIQUE INDEX one_load_under_way ON mirror_loads (mirror) WHERE loaded_at IS NULL;
CREATE INDEX mirror_loads_to_verify ON mirror_loads (mirror, after_position) WHERE verified_at IS NULL;
CREATE INDEX mirror_loads_by_time ON mirror_loads (mirror, planned_at);  -- those of a day, of years
CREATE INDEX mirror_loads_that_differ ON mirror_loads (mirror) WHERE differs IS NOT NULL;

-- The day in whose partition a mirror has an event: that of its occurrence. A table has 10,000 partitions at most, and an event may
-- say any time in the past, so all from before 2010 share one.
CREATE FUNCTION mirror_day(occurred_at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN utc_day(occurred_at) < '2010-01-01' THEN '1970-01-01' ELSE utc_day(occurred_at) END
$$;

-- The position up to which a mirror has, and was found to have, every event from its beginning on.
CREATE FUNCTION mirror_verified_to(of_mirror text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT s.after_position FROM mirror_loads s WHERE s.mirror = of_mirror AND s.verified_at IS NULL
                     ORDER BY s.after_position LIMIT 1),
                    (SELECT s.upto_position FROM mirror_loads s WHERE s.mirror = of_mirror ORDER BY s.after_position DESC LIMIT 1),
                    (SELECT m.begins_after FROM mirrors m WHERE m.mirror = of_mirror))
$$;

-- How far each mirror is, and why it is no further.
CREATE VIEW mirror_status AS
    SELECT m.mirror, m.begins_after, coalesce(loaded.upto, m.begins_after) AS position,
           mirror_verified_to(m.mirror) AS verified_to,
           greatest(0, last_position() - coalesce(loaded.upto, m.begins_after)) AS behind,
           coalesce((SELECT greatest(0, extract(epoch FROM current_instant() - e.recorded_at)::float8) FROM event_log e
                     WHERE e.position > coalesce(loaded.upto, m.begins_after) ORDER BY e.position LIMIT 1), 0) AS behind_seconds,
           (SELECT count(*) FROM mirror_loads s WHERE s.mirror = m.mirror AND s.differs IS NOT NULL) AS differing,
           m.failures, m.error, m.waits_for
    FROM mirrors m LEFT JOIN LATERAL (
        SELECT s.upto_position AS upto FROM mirror_loads s WHERE s.mirror = m.mirror AND s.loaded_at IS NOT NULL
        ORDER BY s.after_position DESC LIMIT 1
    ) loaded ON true;

-- Begins a mirror, unless there is one of that name: with the first event of the log that was not dropped.
CREATE FUNCTION begin_mirror(of_mirror text) RETURNS mirrors
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_mirror mirrors;
BEGIN
    INSERT INTO mirrors (mirror, begins_after) VALUES (of_mirror, whole_from() - 1) ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT found_mirror FROM mirrors m WHERE m.mirror = of_mirror;
    RETURN found_mirror;
END $$;

-- Answers the load to make: the one that was planned and has not ended, else one of the next events. None while there are fewer than
-- `most_events` of them and the last load is not `pause` old, or where BigQuery takes no more that day.
CREATE FUNCTION plan_load(
    of_mirror text, most_events bigint, pause interval, most_partitions integer, jobs_a_day bigint, partitions_a_day bigint
) RETURNS SETOF mirror_loads
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    held mirrors;
    load mirror_loads;
    limited_by text;
    partitions_left bigint;
    instant timestamptz := current_instant();  -- once: an index is of no use for what is another each time
BEGIN
    SELECT * INTO STRICT held FROM mirrors m WHERE m.mirror = of_mirror FOR UPDATE;
    SELECT * INTO load FROM mirror_loads l WHERE l.mirror = of_mirror AND l.loaded_at IS NULL;
    IF FOUND THEN
        RETURN NEXT load;
        RETURN;
    END IF;
    -- With few partitions left a load would have few events, and use up the jobs.
    SELECT least(most_partitions, partitions_a_day - coalesce(sum(l.partitions), 0)),
           CASE WHEN count(*) >= jobs_a_day THEN 'load jobs a day'
                WHEN partitions_a_day - coalesce(sum(l.partitions), 0) < greatest(1, most_partitions / 4)
                THEN 'changes of partitions a day' END
    INTO partitions_left, limited_by
    FROM mirror_loads l WHERE l.mirror = of_mirror AND l.planned_at > instant - interval '24 hours';
    UPDATE mirrors m SET waits_for = limited_by WHERE m.mirror = of_mirror AND m.waits_for IS DISTINCT FROM limited_by;
    IF limited_by IS NOT NULL THEN
        RETURN;
    END IF;
    load := next_load(held, most_events, partitions_left);
    IF load.events IS NULL OR (load.events < most_events AND load.partitions < partitions_left AND EXISTS (
        SELECT FROM mirror_loads l WHERE l.mirror = of_mirror AND l.planned_at > instant - pause
    )) THEN
        RETURN;
    END IF;
    INSERT INTO mirror_loads SELECT load.*;
    RETURN NEXT load;
END $$;

-- The next events as a load, of so many events and days at most; one without events where the log has no more.
CREATE FUNCTION next_load(held mirrors, most_events bigint, most_partitions bigint) RETURNS mirror_loads
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    load mirror_loads;
BEGIN
    load.mirror := held.mirror;
    load.planned_at := current_instant();
    load.after_position := coalesce((SELECT s.upto_position FROM mirror_loads s WHERE s.mirror = held.mirror
                                     ORDER BY s.after_position DESC LIMIT 1), held.begins_after);
    SELECT max(n.position), count(*), count(DISTINCT n.day), min(n.day), max(n.day)
    INTO load.upto_position, load.events, load.partitions, load.first_day, load.last_day FROM (
        SELECT e.position, mirror_day(e.occurred_at) AS day FROM event_log e
        WHERE e.position > load.after_position ORDER BY e.position LIMIT most_events
    ) n;
    IF load.partitions > most_partitions THEN  -- it ends before the first event of a day too many
        SELECT max(n.position), count(*), count(DISTINCT n.day), min(n.day), max(n.day)
        INTO load.upto_position, load.events, load.partitions, load.first_day, load.last_day FROM (
            SELECT d.position, d.day, sum(d.is_new) OVER (ORDER BY d.position) AS days FROM (
                SELECT e.position, e.day, (row_number() OVER (PARTITION BY e.day ORDER BY e.position) = 1)::integer AS is_new
                FROM (SELECT l.position, mirror_day(l.occurred_at) AS day FROM event_log l
                      WHERE l.position > load.after_position AND l.position <= load.upto_position) e
            ) d
        ) n WHERE n.days <= most_partitions;
    END IF;
    IF load.events = 0 THEN
        load.events := NULL;
    END IF;
    RETURN load;
END $$;

-- Ends a load. Ended again, or by two at once, it stays as it was.
CREATE FUNCTION complete_load(of_mirror text, after_pos bigint, of_events bigint, of_digest text, of_bytes bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE mirror_loads s SET loaded_at = current_instant(), digest = of_digest, bytes = of_bytes
    WHERE s.mirror = of_mirror AND s.after_position = after_pos AND s.loaded_at IS NULL AND s.events = of_events;
    IF NOT FOUND AND NOT EXISTS (
        SELECT FROM mirror_loads s WHERE s.mirror = of_mirror AND s.after_position = after_pos AND s.digest = of_digest
    ) THEN
        RAISE EXCEPTION 'the load after % is not what was planned: % events', after_pos, of_events
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE mirrors m SET failures = 0, error = NULL WHERE m.mirror = of_mirror AND m.failures > 0;
END $$;

-- The first loads after a position up to another that have ended and are not verified.
CREATE FUNCTION loads_to_verify(of_mirror text, after_pos bigint, upto bigint, most integer) RETURNS SETOF mirror_loads
LANGUAGE sql STABLE AS $$
    SELECT * FROM mirror_loads l
    WHERE l.mirror = of_mirror AND l.verified_at IS NULL AND l.loaded_at IS NOT NULL
      AND l.after_position > after_pos AND l.after_position < upto
    ORDER BY l.after_position LIMIT most
$$;

-- Says what a mirror was found to have of its loads. Answers how many differ from the log.
CREATE FUNCTION verify_loads(of_mirror text, after_pos bigint[], found_events bigint[], found_digests text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE mirror_loads s SET
        differs = CASE WHEN g.events IS DISTINCT FROM s.events THEN format('%s of %s events', coalesce(g.events, 0), s.events)
                       WHEN g.digest IS DISTINCT FROM s.digest THEN 'other events' END,
        verified_at = CASE WHEN g.events = s.events AND g.digest = s.digest THEN current_instant() END
    FROM unnest(after_pos, found_events, found_digests) AS g (after_position, events, digest)
    WHERE s.mirror = of_mirror AND s.after_position = g.after_position AND s.loaded_at IS NOT NULL;
    RETURN (SELECT count(*) FROM mirror_loads s WHERE s.mirror = of_mirror AND s.differs IS NOT NULL AND s.after_position = ANY (after_pos));
END $$;

-- Has a load made again, under another id, once what the mirror has of it was deleted; the log has to have its events yet (UB005). Also
-- where another process has repaired it meanwhile: then that was deleted. Answers false while another load is under way.
CREATE FUNCTION repair_load(of_mirror text, after_pos bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM mirrors m WHERE m.mirror = of_mirror FOR UPDATE;
    PERFORM require_whole_log(after_pos);
    IF EXISTS (SELECT FROM mirror_loads s WHERE s.mirror = of_mirror AND s.after_position <> after_pos AND s.loaded_at IS NULL) THEN
        RETURN false;
    END IF;
    UPDATE mirror_loads s SET loaded_at = NULL, digest = NULL, bytes = NULL, verified_at = NULL, differs = NULL
    WHERE s.mirror = of_mirror AND s.after_position = after_pos;
    UPDATE mirrors m SET series = gen_random_uuid() WHERE m.mirror = of_mirror;
    RETURN true;
END $$;

-- Says why a load failed, or could not be verified. Where as many jobs have failed as are tried, the next ones have other names.
CREATE FUNCTION fail_mirror(of_mirror text, code text, message text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE mirrors m SET failures = m.failures + 1, error = jsonb_build_object('code', code, 'message', message),
                         series = CASE WHEN code = 'jobsFailed' THEN gen_random_uuid() ELSE m.series END
    WHERE m.mirror = of_mirror
$$;

-- Drops events that were exported: those given, each as the log has it, and folded by every projection. Answers how many.
-- Raises UB006 where one is not so, and drops none.
CREATE OR REPLACE FUNCTION drop_events(exported event_log[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' AS $$
DECLARE
    dropped bigint;
    unfolded text;
BEGIN
    LOCK TABLE dropped_events IN SHARE ROW EXCLUSIVE MODE;  -- nobody begins to fill a projection meanwhile
    SELECT format('projection %s (%s) is at position %s', p.name, p.stage, p.position) INTO unfolded
    FROM projections p WHERE p.position < (SELECT max(x.position) FROM unnest(exported) x) LIMIT 1;
    IF unfolded IS NOT NULL THEN
        RAISE EXCEPTION '%: it has not folded these events', unfolded USING ERRCODE = 'UB006';
    END IF;
    SELECT format('mirror %s was verified up to position %s', m.mirror, mirror_verified_to(m.mirror)) INTO unfolded
    FROM mirrors m WHERE mirror_verified_to(m.mirror) < (SELECT max(x.position) FROM unnest(exported) x) LIMIT 1;
    IF unfolded IS NOT NULL THEN
        RAISE EXCEPTION '%: it might not have these events', unfolded USING ERRCODE = 'UB006',
            HINT = 'let `usage-service mirror verify` end well; a mirror that is given up is forgotten by `usage-service mirror forget`';
    END IF;
    SELECT format('%s of these events are set aside by projection %s (%s)', count(*), d.projection, d.stage) INTO unfolded
    FROM dead_letters d JOIN unnest(exported) x ON x.position = d.position GROUP BY d.projection, d.stage LIMIT 1;
    IF unfolded IS NOT NULL THEN
        RAISE EXCEPTION '%: it could never fold them', unfolded USING ERRCODE = 'UB006',
            HINT = 'take them up with `usage-service projections retry`, or give them up with `usage-service projections discard`';
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
    UPDATE retention_changes SET number = number + 1;
    RETURN dropped;
END $$;

-- The way back from a gap larger than that, which restore_events() once let arise: events behind it take the positions directly
-- before it, in their order, and all that remembers a position goes with them. No event is deleted or changed otherwise. For the
-- owner, while no program runs: those that have read a position behind the gap would wait there.
CREATE OR REPLACE FUNCTION close_gap(OUT gap_after bigint, OUT moved bigint, OUT log_end bigint)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    was_end bigint;
    holder regclass;
    held name;
BEGIN
    LOCK TABLE dropped_events IN SHARE ROW EXCLUSIVE MODE;  -- nothing is dropped or put back meanwhile, nor folded
    PERFORM FROM projections p ORDER BY p.name, p.stage FOR UPDATE;
    PERFORM lock_event_log();
    was_end := last_position();
    SELECT g.before INTO gap_after FROM (
        SELECT e.position, lag(e.position, 1, whole_from() - 1) OVER (ORDER BY e.position) AS before FROM event_log e
    ) g WHERE g.position - g.before > largest_gap() AND g.before >= whole_from() - 1 ORDER BY g.position LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the log has no gap larger than % after what was dropped from it', largest_gap()
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF EXISTS (SELECT FROM mirror_loads s WHERE s.upto_position > gap_after) THEN
        RAISE EXCEPTION 'a mirror has events of behind position %', gap_after USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = '`usage-service mirror forget`, and begin another one afterwards';
    END IF;
    FOR holder, held IN  -- whatever table remembers a position: it is in a column of one of these names
        SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.oid <> 'event_log'::regclass
          AND a.attname IN ('position', 'log_position', 'changed_at', 'failed_after') AND a.atttypid = 'bigint'::regtype
    LOOP
        EXECUTE format('UPDATE %1$s SET %2$I = position_moved_to(%2$I, $1) WHERE %2$I > $1', holder, held) USING gap_after;
    END LOOP;
    UPDATE event_log e SET position = m.becomes FROM (
        SELECT b.position AS was, gap_after + row_number() OVER (ORDER BY b.position) AS becomes
        FROM event_log b WHERE b.position > gap_after
    ) m WHERE e.position = m.was;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM setval('event_position', last_position());
    log_end := append_own_event('events_moved', NULL, NULL, NULL, session_user::text,
                                jsonb_build_object('gap_after', gap_after, 'events', moved, 'was_end', was_end));
END $$;

-- A projection may be filled from the mirror, and from the log from there on.
DROP FUNCTION require_whole_log(), begin_filling(text, text, jsonb);

-- Raises UB005 where events after a position were dropped: what is filled from the rest would have forgotten them.
CREATE FUNCTION require_whole_log(from_position bigint DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE dropped_events IN SHARE MODE;  -- nobody drops events meanwhile
    IF whole_from() - 1 > from_position THEN
        RAISE EXCEPTION 'events up to position % were dropped, so no projection can be filled from the log',
            whole_from() - 1 USING ERRCODE = 'UB005',
            HINT = 'put them back, from the mirror of the log with `usage-service retention restore` or from their exports with '
                   '`usage-service retention restore FILE...`, then drop them again; or compute popularity and sessions in the mirror: '
                   '--in bigquery';
    END IF;
END $$;

-- Begins to fill a projection beside the live one, or finds it begun: answers its generation. It is defined as the live
-- one is, by its tables and fold or by the file that it was added with. A verification of what was live before begins
-- anew. The events after `from_position` are to come from the log, which has to be whole from there on; those up to it, where it is not
-- 0, from the mirror.
CREATE FUNCTION begin_filling(projection text, to_stage text, new_settings jsonb DEFAULT NULL, from_position bigint DEFAULT 0) RETURNS uuid
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    live projections;
    begun projections;
    new_home text := to_stage || '_' || projection;
    filled_table text;
BEGIN
    LOCK TABLE filling_lock IN SHARE UPDATE EXCLUSIVE MODE;
    live := find_projection(projection, 'live');
    SELECT * INTO begun FROM projections p WHERE p.name = projection AND p.stage = to_stage;
    IF FOUND AND to_stage = 'verify' AND (begun.version, begun.settings, begun.definition)
                                         IS DISTINCT FROM (live.version, live.settings, live.definition) THEN
        PERFORM drop_projection(projection, to_stage);
    ELSIF FOUND THEN
        PERFORM require_whole_log(greatest(from_position, begun.position));
        RETURN begun.generation;
    END IF;
    PERFORM require_whole_log(from_position);
    IF live.definition IS NOT NULL THEN
        RETURN define_projection(projection, to_stage, live.definition);
    END IF;
    EXECUTE format('CREATE SCHEMA %I', new_home);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO usage_server, usage_builder, usage_reader, usage_projections', new_home);
    FOREACH filled_table IN ARRAY live.tables LOOP
        EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL)', new_home, filled_table, live.home, filled_table);
    END LOOP;
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO usage_server, usage_builder, usage_reader, usage_projections',
                   new_home);
    INSERT INTO projections (name, stage, version, home, tables, settings)
    VALUES (projection, to_stage, live.version, new_home, live.tables, coalesce(new_settings, live.settings))
    RETURNING * INTO begun;
    RETURN begun.generation;
END $$;

GRANT SELECT ON mirrors, mirror_loads, mirror_status TO usage_server, usage_builder, usage_reader, usage_projections;
REVOKE ALL ON FUNCTION require_whole_log, begin_filling, mirror_day, mirror_verified_to, begin_mirror, plan_load, next_load, complete_load, loads_to_verify,
    verify_loads, repair_load, fail_mirror FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mirror_day, mirror_verified_to TO usage_server, usage_builder, usage_reader;
GRANT EXECUTE ON FUNCTION begin_mirror, plan_load, complete_load, loads_to_verify, verify_loads, repair_load, fail_mirror TO usage_server;

-- Builds that end and begin.
-- The bytes of a day: each job of the warehouse once, whichever attempts begin or adopt it. Programs of version 4 count their attempts.
CREATE TABLE warehouse_jobs (
    job   text   PRIMARY KEY,  -- its id there
    work  uuid   NOT NULL,     -- the build or the shared job that it is of
    day   date   NOT NULL,
    bytes bigint NOT NULL,     -- to be read by dry run; read, once it is over
    CONSTRAINT bytes_are_not_negative CHECK (bytes >= 0)
);
CREATE INDEX warehouse_jobs_of_work ON warehouse_jobs (work);
CREATE INDEX warehouse_jobs_by_day ON warehouse_jobs (day);
GRANT SELECT ON warehouse_jobs TO usage_server, usage_builder, usage_reader, usage_projections;
DROP FUNCTION count_bytes(bigint), count_shared_bytes(bigint);

-- What an attempt says that it read beyond the jobs of its build or shared job that are accounted for.
CREATE FUNCTION uncounted_bytes(of_work uuid, read bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN greatest(0, read - coalesce((SELECT sum(j.bytes) FROM warehouse_jobs j WHERE j.work = of_work), 0));
END $$;

-- After record_transition: who counts holds the log's lock already, so that nobody waits for one with the other.
CREATE FUNCTION count_bytes(of_work uuid, read bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF read > 0 THEN
        INSERT INTO warehouse_days AS d (day, bytes)
        SELECT utc_day(current_instant()), u FROM uncounted_bytes(of_work, read) u WHERE u > 0
        ON CONFLICT (day) DO UPDATE SET bytes = d.bytes + excluded.bytes;
    END IF;
END $$;

-- After the log's lock, as all bytes are counted.
CREATE FUNCTION count_shared_bytes(of_job uuid, read bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF uncounted_bytes(of_job, read) > 0 THEN
        PERFORM begin_append();
        PERFORM count_bytes(of_job, read);
    END IF;
END $$;

-- Counts the bytes that a warehouse job is to read today, once, whichever attempts begin or adopt it, if so many are left of
-- `most_bytes` a day: else answers how many are. With no `most_bytes` it is over, and these are the bytes that it read.
-- Who counts locks the day, so of two at once the second sees what the first may read. That is no lock of whoever waits for the log's:
-- this one takes the log's not at all.
CREATE FUNCTION account_job(of_work uuid, of_job text, job_bytes bigint, most_bytes bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    today date := utc_day(current_instant());
    known warehouse_jobs;
    left_today bigint;
BEGIN
    INSERT INTO warehouse_days (day, bytes) VALUES (today, 0) ON CONFLICT (day) DO NOTHING;
    IF FOUND THEN
        DELETE FROM warehouse_jobs j WHERE j.day < today - 30;
    END IF;
    PERFORM FROM warehouse_days d WHERE d.day = today FOR NO KEY UPDATE;
    SELECT * INTO known FROM warehouse_jobs j WHERE j.job = of_job;
    IF most_bytes IS NOT NULL THEN
        left_today := bytes_left_today(most_bytes);
        IF known.job IS NOT NULL THEN
            RETURN NULL;
        ELSIF job_bytes > left_today THEN
            RETURN left_today;
        END IF;
    END IF;
    INSERT INTO warehouse_jobs AS j (job, work, day, bytes) VALUES (of_job, of_work, today, job_bytes)
    ON CONFLICT (job) DO UPDATE SET bytes = excluded.bytes;
    UPDATE warehouse_days d SET bytes = d.bytes + job_bytes - coalesce(known.bytes, 0) WHERE d.day = coalesce(known.day, today);
    RETURN NULL;
END $$;

-- The same for the attempt that holds a build, or a shared job, and that will have read `attempt_bytes` with it. Keeps the lease.
CREATE FUNCTION account_build_job(
    of_build uuid, of_attempt integer, lease interval, of_job text, job_bytes bigint, attempt_bytes bigint, most_bytes bigint
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    left_today bigint := account_job(held.build_id, of_job, job_bytes, most_bytes);
BEGIN
    PERFORM heartbeat_build(of_build, of_attempt, lease, new_bytes => CASE WHEN left_today IS NULL THEN attempt_bytes END);
    RETURN left_today;
END $$;

CREATE FUNCTION account_shared_job(
    of_job uuid, of_attempt integer, lease interval, warehouse_job text, job_bytes bigint, attempt_bytes bigint, most_bytes bigint
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
    left_today bigint := account_job(held.job_id, warehouse_job, job_bytes, most_bytes);
BEGIN
    PERFORM heartbeat_shared_job(of_job, of_attempt, lease, new_bytes => CASE WHEN left_today IS NULL THEN attempt_bytes END);
    RETURN left_today;
END $$;

-- What attempts may still read today, of `most_bytes` a day; those under way are counted with what they have said beyond the jobs that
-- are accounted for.
CREATE OR REPLACE FUNCTION bytes_left_today(most_bytes bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT greatest(0, most_bytes - coalesce((SELECT d.bytes FROM warehouse_days d WHERE d.day = utc_day(current_instant())), 0)
                       - coalesce((SELECT sum(uncounted_bytes(b.build_id, b.bytes)) FROM builds b WHERE b.state = 'running'), 0)
                       - coalesce((SELECT sum(uncounted_bytes(j.job_id, j.bytes)) FROM shared_jobs j WHERE j.state = 'running'), 0)
                   )::bigint
$$;

-- How long the attempt that holds a build has taken: what came before it, in the queue or in vain, is not in it.
-- The first attempt began when the build did; those after it have an event that says so.
CREATE OR REPLACE FUNCTION attempt_seconds(held builds) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
DECLARE
    began_at timestamptz := held.started_at;
BEGIN
    IF held.attempt > 1 THEN
        SELECT e.occurred_at INTO began_at FROM event_log e
        WHERE e.data ->> 'build_id' = held.build_id::text AND e.type LIKE 'build\_%' AND e.type = 'build_started'
        ORDER BY e.position DESC LIMIT 1;
    END IF;
    RETURN round(greatest(0, extract(epoch FROM current_instant() - began_at)), 3);
END $$;

-- The same for several builds, each with its event: two statements for all of them, where one after the other takes several each.
CREATE FUNCTION record_transitions(of_builds builds[], event_types text[], by_source text, details jsonb[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    positions bigint[];
BEGIN
    PERFORM begin_append(), pg_notify('events_appended', '');
    WITH told AS MATERIALIZED (
        SELECT b.product, b.channel, b.probe, nextval('event_position') AS position, event_types[b.ordinality] AS type, b.ordinality,
               pg_notify('build_changed', b.build_id::text), details[b.ordinality] || jsonb_build_object('build_id', b.build_id) AS data
        FROM unnest(of_builds) WITH ORDINALITY b
    ), recorded AS (
        INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, product, channel, probe, source, data, digest)
        SELECT t.position, gen_random_uuid(), t.type, current_instant(), current_instant(), t.product, t.channel, t.probe, by_source,
               t.data, md5(t.data::text)::uuid
        FROM told t
    )
    SELECT array_agg(t.position ORDER BY t.ordinality) INTO positions FROM told t;
    RETURN positions;
END $$;

-- Locks the builds that come next, in the order of the index: to sort all that waits costs more than the rest.
CREATE FUNCTION lock_claimable_builds(most integer) RETURNS builds[]
LANGUAGE plpgsql SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    RETURN ARRAY(
        SELECT q FROM builds q
        WHERE q.state = 'queued' AND q.not_before <= current_instant()
          AND NOT EXISTS (
              SELECT FROM shared_jobs j
              WHERE j.job_id = q.shared_job AND (j.state = 'running' OR j.state = 'queued' AND q.prefetched))
        ORDER BY q.prefetched, q.not_before LIMIT most FOR NO KEY UPDATE SKIP LOCKED);
END $$;

-- e and b in one transaction, for what ends makes room for what waits. Ends builds without rows; those that these attempts do not hold any
-- more stay as they are. Hands up to so many builds to the worker, no more than it has ended if it names any: those waited for longest,
-- before those that nobody waits for. What a shared job reads waits for that, but for builds that somebody waits for whose job has not
-- begun. Answers the builds that it ended (`no_data`) and those that it hands out (`running`).
-- By key, and planned once a session, whatever the planner believes of a table that has just grown: planning costs more than the rest.
CREATE FUNCTION exchange_builds(
    of_builds uuid[], of_attempts integer[], bytes_read bigint[], by_worker text, lease interval, most integer
) RETURNS SETOF builds LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- All of them before the log's lock: who cancels one of them holds it and waits for the log.
    held builds[] := ARRAY(
        SELECT b FROM builds b
        WHERE b.build_id = ANY (of_builds) AND b.state = 'running'
          AND b.attempt = of_attempts[array_position(of_builds, b.build_id)]
        ORDER BY b.build_id FOR NO KEY UPDATE);
    number integer := cardinality(held);
    found_builds builds[] := lock_claimable_builds(CASE of_builds WHEN '{}' THEN most ELSE least(most, number) END);
    read bigint[] := ARRAY(
        SELECT bytes_read[array_position(of_builds, held[place].build_id)] FROM generate_series(1, number) AS place);
    positions bigint[];
BEGIN
    IF number + cardinality(found_builds) = 0 THEN
        RETURN;
    END IF;
    positions := record_transitions(
        held || found_builds,
        array_fill('build_found_no_data'::text, ARRAY[number]) || array_fill('build_started'::text, ARRAY[cardinality(found_builds)]),
        by_worker,
        ARRAY(SELECT jsonb_build_object(
                  'seconds', attempt_seconds(held[place]), 'attempt', held[place].attempt, 'bytes', read[place], 'rows', 0)
              FROM generate_series(1, number) AS place)
        || ARRAY(SELECT jsonb_build_object('attempt', f.attempt + 1) FROM unnest(found_builds) f));
    RETURN QUERY
    UPDATE builds b SET
        state = 'no_data', worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = NULL, bytes = read[place],
        finished_at = current_instant(), log_position = positions[place]
    FROM generate_series(1, number) AS place WHERE b.build_id = held[place].build_id
    RETURNING b.*;
    RETURN QUERY
    UPDATE builds b SET
        state = 'running', attempt = b.attempt + 1, worker = by_worker, lease_until = current_instant() + lease,
        started_at = coalesce(b.started_at, current_instant()), stage = 'started', percent = 0, bytes = NULL, error = NULL,
        shared_job = NULL, log_position = positions[number + place]
    FROM generate_series(1, cardinality(found_builds)) AS place WHERE b.build_id = found_builds[place].build_id
    RETURNING b.*;
    FOR place IN 1..number LOOP
        PERFORM count_bytes(held[place].build_id, read[place]);
    END LOOP;
END $$;

-- b, for builders of version 4.
CREATE OR REPLACE FUNCTION claim_build(by_worker text, lease interval, most integer DEFAULT 1) RETURNS SETOF builds
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM exchange_builds('{}', '{}', '{}', by_worker, lease, most)
$$;

-- e for several builds, for builders of version 4. Answers those that were still held by these attempts.
CREATE OR REPLACE FUNCTION complete_builds(of_builds uuid[], of_attempts integer[], bytes_read bigint[]) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT e.build_id FROM exchange_builds(
        of_builds, of_attempts, bytes_read,
        (SELECT max(b.worker) FROM builds b
         WHERE b.build_id = ANY (of_builds) AND b.attempt = of_attempts[array_position(of_builds, b.build_id)]),
        NULL, 0) e
$$;

-- d: the rows that the worker inserted in this transaction are merged with those of earlier builds.
-- e: without any, the probe was built and too few clients sent it. Answers how many rows the build has.
CREATE OR REPLACE FUNCTION complete_build(of_build uuid, of_attempt integer, bytes_read bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    stored integer := succeed_build(held, bytes_read, jsonb_build_object('seconds', attempt_seconds(held)));
BEGIN
    PERFORM count_bytes(of_build, bytes_read);
    RETURN stored;
END $$;

-- i: puts a build back that its worker will not finish, for another one to claim at once: costs no attempt.
CREATE OR REPLACE FUNCTION hand_back_build(of_build uuid, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
BEGIN
    UPDATE builds b SET
        state = 'queued', max_attempts = b.max_attempts + 1, worker = NULL, lease_until = NULL, stage = NULL,
        percent = NULL, bytes = NULL, not_before = current_instant(), log_position = record_transition(
            held, 'build_progressed', held.worker, jsonb_build_object('attempt', of_attempt, 'stage', 'handed_back'))
    WHERE b.build_id = of_build;
    PERFORM count_bytes(held.build_id, held.bytes);
    PERFORM pg_notify('build_requested', of_build::text);
END $$;

-- j: cancels a build that is not over; its worker is told, and stops the warehouse's job. When its lease would have ended
-- any worker does (claim_orphaned_jobs), for it may be dead. Answers the state that the build was in before, or null when there
-- is none.
CREATE OR REPLACE FUNCTION cancel_build(of_build uuid, by_source text DEFAULT session_user) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_build builds;
BEGIN
    SELECT * INTO found_build FROM builds b WHERE b.build_id = of_build FOR NO KEY UPDATE;
    IF found_build.state IN ('queued', 'running') THEN
        PERFORM end_build(
            found_build, 'cancelled', found_build.error, found_build.bytes, NULL, record_transition(
                found_build, 'build_cancelled', by_source, jsonb_build_object('attempt', found_build.attempt)));
        UPDATE builds b SET stop_jobs_at = coalesce(found_build.lease_until, current_instant())
        WHERE b.build_id = of_build AND b.attempt > 0;
        PERFORM count_bytes(found_build.build_id, found_build.bytes);
        PERFORM pg_notify('build_cancelled', of_build::text);
    END IF;
    RETURN found_build.state;
END $$;

CREATE OR REPLACE FUNCTION give_up_attempt(held builds, why jsonb, retry_in interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    again boolean := retry_in IS NOT NULL AND held.attempt < held.max_attempts;
    at_position bigint := record_transition(
        held, 'build_failed', held.worker, why || jsonb_build_object('attempt', held.attempt, 'final', NOT again));
BEGIN
    IF again THEN
        UPDATE builds b SET
            state = 'queued', worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, bytes = NULL, error = why,
            not_before = current_instant() + retry_in, log_position = at_position
        WHERE b.build_id = held.build_id;
    ELSE
        PERFORM end_build(held, 'failed', why, held.bytes, NULL, at_position);
    END IF;
    PERFORM count_bytes(held.build_id, held.bytes);
    RETURN CASE WHEN again THEN 'queued' ELSE 'failed' END;
END $$;

CREATE OR REPLACE FUNCTION give_up_shared_job(held shared_jobs, why jsonb, retry_in interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    remaining uuid[];
    new_state text := 'failed';
BEGIN
    IF retry_in IS NOT NULL AND held.attempt < held.max_attempts THEN
        UPDATE shared_jobs j SET
            state = 'queued', worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, bytes = NULL, error = why,
            not_before = current_instant() + retry_in
        WHERE j.job_id = held.job_id;
        PERFORM count_shared_bytes(held.job_id, held.bytes);
        PERFORM pg_notify('build_requested', held.job_id::text);
        RETURN 'queued';
    END IF;
    remaining := lock_shared_builds(held);
    IF remaining <> '{}' AND cardinality(held.builds) > 1 THEN  -- one that is left over is not the one at fault
        PERFORM split_shared_job(held, remaining);
        new_state := 'split';
    ELSIF remaining <> '{}' THEN
        PERFORM give_up_attempt(start_shared_build(held, remaining[1]), why, NULL);
    END IF;
    PERFORM end_shared_job(held, new_state, why);
    RETURN new_state;
END $$;

-- For who holds the job.
CREATE OR REPLACE FUNCTION end_shared_job(held shared_jobs, new_state text, why jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shared_jobs j SET
        state = new_state, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why, bytes = held.bytes,
        finished_at = current_instant()
    WHERE j.job_id = held.job_id;
    PERFORM count_shared_bytes(held.job_id, held.bytes);
    PERFORM pg_notify('night_changed', held.night_id::text), pg_notify('build_requested', held.job_id::text);
END $$;

-- Lets another worker go on with the job at once: costs no attempt.
CREATE OR REPLACE FUNCTION hand_back_shared_job(of_job uuid, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
BEGIN
    UPDATE shared_jobs j SET
        state = 'queued', max_attempts = j.max_attempts + 1, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL,
        bytes = NULL, not_before = current_instant()
    WHERE j.job_id = held.job_id;
    PERFORM count_shared_bytes(held.job_id, held.bytes);
    PERFORM pg_notify('build_requested', of_job::text);
END $$;

-- The seconds until the job `through` of a night will be done, or all of them (null): as long as the bytes take that its jobs are expected
-- to read still, by those that they have done. Null until a twentieth is done.
CREATE FUNCTION night_seconds_left(of_night uuid, through uuid DEFAULT NULL) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN sum(j.done) > 0 AND sum(j.done) >= sum(j.expected_bytes) / 20 THEN ceil(
               extract(epoch FROM current_instant() - min(j.started_at)) / sum(j.done)
               * sum(j.expected_bytes - j.done) FILTER (WHERE through IS NULL OR (j.queued_at, j.job_id) <= (
                   SELECT t.queued_at, t.job_id FROM shared_jobs t WHERE t.job_id = through)))::bigint END
    FROM (
        SELECT s.*, s.expected_bytes * CASE WHEN s.finished_at IS NULL THEN coalesce(s.percent, 0) / 100.0 ELSE 1 END AS done
        FROM shared_jobs s
        WHERE s.night_id = of_night AND s.state <> 'split' AND (s.finished_at IS NULL OR s.started_at IS NOT NULL)
    ) j
$$;

REVOKE ALL ON FUNCTION uncounted_bytes, count_bytes, count_shared_bytes, account_job, account_build_job, account_shared_job, record_transitions, lock_claimable_builds, exchange_builds, night_seconds_left FROM PUBLIC;

GRANT EXECUTE ON FUNCTION exchange_builds, account_build_job, account_shared_job TO usage_builder;
GRANT EXECUTE ON FUNCTION night_seconds_left TO usage_server;

-- Feeds.
ALTER TABLE tokens DROP CONSTRAINT scopes_are_known;
ALTER TABLE tokens ADD CONSTRAINT scopes_are_known CHECK (scopes <> '{}' AND scopes <@ ARRAY['events', 'read', 'build', 'admin', 'feed']);
ALTER TABLE tokens ADD CONSTRAINT a_feed_goes_alone CHECK (scopes = '{feed}' OR NOT 'feed' = ANY (scopes));

-- Statements of builds.
-- The statements that builds ran, told by builders beside them, so that people can read how rows were made: of each build that has
-- rows, and of the newest of a probe.
CREATE TABLE statements (
    digest     bytea PRIMARY KEY,
    sql        text  NOT NULL,
    parameters jsonb NOT NULL,
    CONSTRAINT sql_is_bounded CHECK (length(sql) <= 1048576)  -- as long as BigQuery takes it
);
CREATE TABLE build_statements (
    build_id uuid  PRIMARY KEY,
    digest   bytea NOT NULL REFERENCES statements
);
CREATE INDEX build_statements_by_digest ON build_statements (digest);

-- Notes what reads the pings of some builds, and forgets what earlier builds of these probes ran that have no rows any more.
CREATE FUNCTION note_statement(of_builds uuid[], statement text, given jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    named bytea := sha256(convert_to(statement || given, 'UTF8'));
    forgotten bytea[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('note_statement'));  -- else what one forgets is what another is about to refer to
    INSERT INTO statements VALUES (named, statement, given) ON CONFLICT DO NOTHING;
    INSERT INTO build_statements SELECT b.build_id, named FROM builds b WHERE b.build_id = ANY (of_builds)
    ON CONFLICT (build_id) DO UPDATE SET digest = excluded.digest;
    WITH gone AS (
        DELETE FROM build_statements s USING builds old, builds new
        WHERE new.build_id = ANY (of_builds) AND old.product = new.product AND old.channel = new.channel AND old.probe = new.probe
          AND old.build_id <> ALL (of_builds) AND s.build_id = old.build_id
          AND NOT EXISTS (SELECT FROM probe_rows r WHERE r.product = old.product AND r.channel = old.channel
                          AND r.probe = old.probe AND r.built_by = old.build_id)
        RETURNING s.digest
    )
    SELECT array_agg(DISTINCT digest) INTO forgotten FROM gone;
    DELETE FROM statements t WHERE t.digest = ANY (forgotten) AND NOT EXISTS (SELECT FROM build_statements s WHERE s.digest = t.digest);
END $$;

REVOKE EXECUTE ON FUNCTION note_statement FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_statement TO usage_builder;
GRANT SELECT ON statements, build_statements TO usage_server, usage_builder, usage_reader, usage_projections;

-- Sessions that are asked for in several ways, each in one place.
-- The sessions of people that a view of a visitor in an hour may be in: those that began in that hour, and the latest one before. By key.
CREATE FUNCTION sessions_of_visit(
    of_visitor uuid, of_hour timestamptz,
    OUT visitor uuid, OUT started_at timestamptz, OUT ended_at timestamptz, OUT events bigint, OUT products text[], OUT probes text[]
) RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT s.visitor, s.started_at, s.ended_at, s.events, s.products, s.probes
    FROM (
        SELECT * FROM sessions b
        WHERE b.visitor = of_visitor AND b.started_at >= of_hour AND b.started_at < of_hour + interval '1 hour'
        UNION ALL
        (SELECT * FROM sessions b WHERE b.visitor = of_visitor AND b.started_at < of_hour ORDER BY b.started_at DESC LIMIT 1)
    ) s
    WHERE s.ended_at >= of_hour AND NOT s.bot
$$;

-- The sessions that began in a range of time, of visitors below a sample key. `bots` is 'exclude', 'include' or 'only'.
CREATE FUNCTION sampled_sessions(
    since timestamptz, until timestamptz, of_product text, bots text, below bigint,
    OUT visitor uuid, OUT started_at timestamptz, OUT ended_at timestamptz, OUT events bigint, OUT entry page_view,
    OUT probes text[], OUT controls text[], OUT tools_left text[], OUT came_from text
) RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT s.visitor, s.started_at, s.ended_at, s.events, s.entry, s.probes, s.controls, s.tools_left, s.came_from
    FROM sessions s
    WHERE s.started_at >= since AND s.started_at < until AND s.visitor <= sample_bound(below)
      AND (of_product IS NULL OR of_product = ANY (s.products)) AND (bots = 'include' OR s.bot = (bots = 'only'))
$$;

REVOKE ALL ON FUNCTION sessions_of_visit, sampled_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sessions_of_visit, sampled_sessions TO usage_server, usage_builder, usage_reader, usage_projections;

-- An erasure erases when it is recorded, and not when it is sent again; and what the visitor had built today, too.
-- What a visitor is counted by for a day, and not longer.
CREATE FUNCTION daily_hash(day date, visitor uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT md5(format('%s %s', day, visitor))::uuid
$$;

-- Destroys what links visitors to their pseudonyms, and what they have had built today.
CREATE FUNCTION erase_visitors(erased uuid[], in_epoch integer) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF erased = '{}' THEN
        RETURN;
    END IF;
    DELETE FROM visitor_keys k WHERE k.lookup = ANY (erased);
    -- Theirs of an earlier epoch is under another lookup, and due to be forgotten anyhow.
    DELETE FROM visitor_keys k WHERE k.epoch < in_epoch;
    DELETE FROM miss_allowances a WHERE (a.day, a.visitor) IN (
        SELECT m.day, m.visitor FROM miss_allowances m WHERE m.visitor IN (SELECT daily_hash(m.day, e) FROM unnest(erased) e)
        FOR UPDATE SKIP LOCKED);  -- who holds one waits for the log, and comes after the erasure
END $$;

CREATE OR REPLACE FUNCTION append_events(
    event_ids uuid[], types text[], schema_versions smallint[], occurred timestamptz[], lookups uuid[],
    epochs integer[], products text[], channels text[], probes text[], sources text[], payloads jsonb[], digests uuid[]
) RETURNS TABLE (item integer, log_position bigint, outcome text)
-- Hash joins only: the planner does not know how long the arrays are, and takes nested loops for the long ones too.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_nestloop = off AS $$
DECLARE
    log_end bigint;
BEGIN
    PERFORM begin_append();
    log_end := last_position();
    RETURN QUERY
    WITH incoming AS (
        SELECT u.*, row_number() OVER (PARTITION BY u.event_id ORDER BY u.item) AS occurrence
        FROM unnest(event_ids, types, schema_versions, occurred, lookups, epochs, products, channels, probes, sources,
                    payloads, digests)
             WITH ORDINALITY AS u (event_id, type, schema_version, occurred_at, lookup, epoch, product, channel,
                                   probe, source, data, digest, item)
    ), judged AS MATERIALIZED (
        SELECT i.*, k.position AS known_position, k.digest AS known_digest
        FROM incoming i
        LEFT JOIN (
            SELECT e.event_id, e.position, e.digest FROM event_log e WHERE e.event_id = ANY (event_ids)
            UNION ALL
            SELECT d.event_id, d.position, d.digest FROM dropped_events d WHERE d.event_id = ANY (event_ids)
        ) k USING (event_id)
    ), known_visitors AS MATERIALIZED (
        SELECT v.lookup, v.pseudonym FROM visitor_keys v WHERE v.lookup = ANY (lookups)
    ), new_visitors AS (
        INSERT INTO visitor_keys (lookup, epoch)
        SELECT j.lookup, max(j.epoch)
        FROM judged j
        WHERE j.known_position IS NULL AND j.occurrence = 1 AND j.lookup IS NOT NULL AND j.type <> 'visitor_erased'
          AND j.lookup NOT IN (SELECT v.lookup FROM known_visitors v)
        GROUP BY j.lookup
        RETURNING visitor_keys.lookup, visitor_keys.pseudonym
    ), numbered AS MATERIALIZED (
        SELECT nextval('event_position') AS position, named.*
        FROM (
            SELECT j.*, v.pseudonym AS visitor
            FROM judged j
            LEFT JOIN (SELECT * FROM known_visitors UNION ALL SELECT * FROM new_visitors) v USING (lookup)
            WHERE j.known_position IS NULL AND j.occurrence = 1
            ORDER BY j.item
        ) named
    ), recorded AS (
        INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product,
                               channel, probe, source, data, digest)
        SELECT n.position, n.event_id, n.type, n.schema_version, n.occurred_at, current_instant(), n.visitor,
               n.product, n.channel, n.probe, n.source, n.data, n.digest
        FROM numbered n
    )
    SELECT j.item::integer, coalesce(j.known_position, n.position),
           CASE WHEN j.item = n.item THEN 'recorded'
                WHEN j.digest = coalesce(j.known_digest, n.digest) THEN 'duplicate'
                ELSE 'conflict'
           END
    FROM judged j LEFT JOIN numbered n ON n.event_id = j.event_id
    ORDER BY j.item;
    IF 'visitor_erased' = ANY (types) THEN
        PERFORM erase_visitors(ARRAY(
            SELECT e.lookup FROM unnest(event_ids, types, lookups, digests) AS e (event_id, type, lookup, digest)
            JOIN event_log l USING (event_id, digest)  -- recorded just now, and not the second event of that id
            WHERE e.type = 'visitor_erased' AND l.position > log_end
        ), (SELECT max(e) FROM unnest(epochs) AS e));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION request_missed_build(
    for_product text, for_channel text, for_probe text, by_visitor uuid, most_builds integer, most_bytes bigint,
    by_source text DEFAULT session_user, in_trace text DEFAULT NULL,
    OUT outcome text, OUT build_id uuid, OUT metric_type text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    today date := utc_day(current_instant());
    hashed uuid := daily_hash(today, by_visitor);
    latest builds;
    is_counted boolean := false;
BEGIN
    SELECT * INTO latest FROM builds b
    WHERE b.product = for_product AND b.channel = for_channel AND b.probe = for_probe
    ORDER BY b.requested_at DESC LIMIT 1;
    IF latest.state IN ('failed', 'cancelled') AND latest.finished_at >= fresh_since(for_product) THEN
        outcome := 'over';
        build_id := latest.build_id;
        RETURN;
    END IF;
    IF coalesce(latest.finished_at < fresh_since(for_product), latest.build_id IS NULL)
       AND EXISTS (SELECT FROM catalogue c WHERE c.product = for_product AND c.probe = for_probe)
       AND NOT EXISTS (SELECT FROM hidden_by(for_product, for_probe))
    THEN
        DELETE FROM miss_allowances m WHERE m.day < today;
        INSERT INTO miss_allowances AS m (day, visitor, builds)
        SELECT today, hashed, 1 WHERE most_builds > 0 AND bytes_left_today(most_bytes) > 0
        ON CONFLICT (day, visitor) DO UPDATE SET builds = m.builds + 1 WHERE m.builds < most_builds;
        is_counted := FOUND;
        IF NOT is_counted THEN
            outcome := 'limited';
            RETURN;
        END IF;
    END IF;
    SELECT r.* INTO outcome, build_id, metric_type
    FROM request_build(for_product, for_channel, for_probe, by_source, in_trace => in_trace) r;
    IF is_counted AND outcome <> 'created' THEN  -- another request has just created it, or it cannot be built
        UPDATE miss_allowances m SET builds = m.builds - 1 WHERE m.day = today AND m.visitor = hashed;
    END IF;
END $$;

-- A fold leaves no view behind, whose functions would run with the rights of who reads it.
CREATE OR REPLACE FUNCTION require_confinement(settings_before text, path_after text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    confined oid := 'usage_projections'::regrole;
    what text;
BEGIN
    what := CASE
        WHEN session_settings(path_after) <> settings_before
            THEN 'SET of a search path, time zone, time-out or the like; their functions may: CREATE FUNCTION ... SET ...'
        WHEN EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relowner = confined AND t.tgdeferrable)
            THEN 'DEFERRABLE constraints or triggers'
        WHEN EXISTS (SELECT FROM pg_cursors c WHERE c.is_holdable) THEN 'cursors WITH HOLD'
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.relowner = confined AND c.relpersistence = 't') THEN 'temporary tables'
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.relowner = confined AND c.relrowsecurity) THEN 'row level security'
        -- Functions in them run with the rights of who reads.
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.relowner = confined AND c.relkind IN ('v', 'm', 'f')) THEN 'views or foreign tables'
        WHEN EXISTS (SELECT FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE p.proowner = confined) THEN 'casts by functions'
        WHEN (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = confined
              AND p.prosecdef AND p.proname IN ('run_definition', 'run_fold')) <> 2
            THEN 'changes to run_definition() and run_fold(), which belong to usage_projections and are SECURITY DEFINER'
    END;
    IF what IS NOT NULL THEN
        RAISE EXCEPTION 'the statements of a projection may have no %', what USING ERRCODE = 'UB007';
    END IF;
END $$;

-- How often events were dropped or put back: what is read from the log besides projections is another then.
CREATE TABLE retention_changes (
    number bigint NOT NULL
);
INSERT INTO retention_changes VALUES (0);

CREATE OR REPLACE FUNCTION put_back_events(exported event_log[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' AS $$
DECLARE
    put_back bigint;
BEGIN
    LOCK TABLE dropped_events IN SHARE ROW EXCLUSIVE MODE;  -- nobody begins to fill a projection meanwhile
    IF EXISTS (
        SELECT FROM unnest(exported) x
        WHERE (fingerprint_event(x) = (SELECT d.fingerprint FROM dropped_events d WHERE d.event_id = x.event_id)
               OR fingerprint_event(without_erased(x)) = (SELECT fingerprint_event(e) FROM event_log e WHERE e.event_id = x.event_id)
              ) IS NOT TRUE
    ) THEN
        RAISE EXCEPTION 'the export holds events that are not what was dropped' USING ERRCODE = 'UB006';
    END IF;
    WITH known AS (
        DELETE FROM dropped_events d USING unnest(exported) x WHERE d.event_id = x.event_id RETURNING d.event_id
    )
    INSERT INTO event_log SELECT kept.*
    FROM unnest(exported) x JOIN known k ON k.event_id = x.event_id CROSS JOIN LATERAL without_erased(x) kept;
    GET DIAGNOSTICS put_back = ROW_COUNT;
    UPDATE retention_changes SET number = number + 1;
    RETURN put_back;
END $$;

REVOKE ALL ON FUNCTION daily_hash, erase_visitors FROM PUBLIC;
GRANT SELECT ON retention_changes TO usage_server, usage_builder, usage_reader, usage_projections;
