-- The usage service and the probe builder: data model and every state change.
--
-- event_log        what happened: immutable, in the order of `position`, written only by append_events()
-- recording_probe  a write that proves that events can be recorded
-- dropped_events   what is left of events that were exported and dropped, so that one sent again is known
-- projections      how far each projection has folded the log; advance_projection() folds the next batch,
--                  swap_projection() puts a rebuilt one in the place of the live one
-- dead_letters     events that a projection could not fold and set aside; retry_dead_letters() takes them up again
--   catalogue        every probe known (fold_catalogue)
--   popularity_*     views a probe, day and week, and visitors by the day they came before (fold_popularity)
--   releases, release_publications, build_revisions   which version a channel had when, all that was said of it, and of which source
--                    its builds are (fold_releases)
--   sessions, session_counts   a visitor's events without a pause of 30 minutes (fold_sessions)
--   journey_events   what a visitor did, in its order (fold_journeys)
--   probe_hours      views and visitors a probe and hour (fold_timeseries)
--   build_costs      what the builds of a probe and day read, and how long they took (fold_build_costs)
-- builds           one row a request to aggregate a probe; changed only by the lettered transitions below, each of
--                  which appends its event and updates the row in one transaction
-- builders         when each builder last showed life
-- probe_rows       the aggregates of the probes that were built
-- statements, build_statements   the SQL that read the pings of builds
-- sink_channels    how far sinks have the rows of each channel, beside probe_rows
-- hotlist_*        what operators pinned or excluded, and the lists that runs of the ETL were given
-- policy_nights    what other ways to choose would have caught and cost, night by night
-- mirrors          how far BigQuery has the log; mirror_loads: which positions went there together, and verified
-- tokens           who may do what over HTTP; page_sessions: who is signed in on the pages
--
-- Whatever the programs do, psql can do: SELECT * FROM request_build('fog', 'nightly', 'gc_ms');
-- Roles: usage_server (aiohttp server), usage_builder (builder), usage_reader (analysts), usage_projections (what folds that were
-- added may read; each has a role of its own, which owns its tables). None may change the log.
-- Runs on PostgreSQL 15 and later. Installed once, under a lock, by whichever program starts first; an older one is led
-- here by usage_service/migrations.

-- Version by version, and what each asks of programs: those made for `works_with` and later work with it.
CREATE TABLE schema_version (
    version      integer     PRIMARY KEY,
    works_with   integer     NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT it_works_with_its_own CHECK (works_with <= version)
);

CREATE EXTENSION IF NOT EXISTS pg_trgm;  -- near names of a probe that does not exist

-- Time comes from one function, so that a test can set it: SET usage.now = '2026-11-24T10:00:00Z'.
CREATE FUNCTION current_instant() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('usage.now', true), '')::timestamptz, clock_timestamp())
$$;

CREATE FUNCTION utc_day(instant timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (instant AT TIME ZONE 'UTC')::date
$$;

---------------------------------------------------------------------------------------------------------------------
-- The log

CREATE SEQUENCE event_position AS bigint;

CREATE TABLE event_log (
    position       bigint      PRIMARY KEY,
    event_id       uuid        NOT NULL,
    type           text        NOT NULL,
    schema_version smallint    NOT NULL DEFAULT 1,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    visitor        uuid,           -- a pseudonym; the raw id is never stored
    product        text,
    channel        text,
    probe          text,
    source         text        NOT NULL,
    data           jsonb       NOT NULL,
    digest         uuid        NOT NULL,  -- of what the client sent but the visitor: tells a repeat from a conflict
    CONSTRAINT event_id_is_used_once UNIQUE (event_id),
    CONSTRAINT data_is_an_object CHECK (jsonb_typeof(data) = 'object')
);

-- The event that erases somebody does not name them, whoever writes it: its time is known to whoever asked for it.
CREATE FUNCTION unname_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.visitor := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER erasures_name_nobody BEFORE INSERT ON event_log
FOR EACH ROW WHEN (NEW.type = 'visitor_erased' AND NEW.visitor IS NOT NULL) EXECUTE FUNCTION unname_erased();

-- A visitor's pseudonym is random; this row alone links it to the person. Erasing somebody deletes their row, and so
-- does the end of an epoch: then not even who has the secret and the raw id can tell which events are theirs.
CREATE TABLE visitor_keys (
    lookup    uuid    PRIMARY KEY,  -- keyed hash of the raw id, the key differing by epoch
    epoch     integer NOT NULL,     -- the day (since 1970) that the epoch of the key began
    pseudonym uuid    NOT NULL DEFAULT gen_random_uuid()
);
CREATE INDEX visitor_keys_by_epoch ON visitor_keys (epoch);

-- Destroys what links the visitors of earlier epochs to their events. Answers how many there were.
CREATE FUNCTION forget_visitors(current_epoch integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH forgotten AS (DELETE FROM visitor_keys WHERE epoch < current_epoch RETURNING 1)
    SELECT count(*) FROM forgotten
$$;

-- Appends events in the order given and answers for each: 'recorded'; 'duplicate' (the same event was sent before,
-- with its original position); 'conflict' (another event has this id, with that one's position).
--
-- Order: sequences hand out numbers in the order of calls, not of commits, so a reader could see 8 before 7 is
-- committed and never look back. Whoever appends therefore holds one lock from before the first number is drawn
-- until its commit, and positions become visible in order. Callers keep that short: many events a call, then commit.
CREATE FUNCTION append_events(
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

-- Appends events of which none is known: the usual case, for half of what append_events() costs. Answers with the position of the
-- first, after which the others stand in the order given; null where nothing was appended, because an id is known or given twice or
-- somebody is to be erased: append_events() judges each then. What many events have alike is given once, and by its number, from 1:
-- `kinds` are of types, versions, products, channels and sources, `persons` of lookups and epochs.
CREATE FUNCTION append_new_events(
    event_ids uuid[], kinds smallint[], occurred timestamptz[], persons smallint[], probes text[], payloads jsonb[], digests uuid[],
    types text[], schema_versions smallint[], products text[], channels text[], sources text[], lookups uuid[], epochs integer[]
) RETURNS bigint
-- Planned once a session, whatever the planner then believes of the tables.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_seqscan = off AS $$
DECLARE
    log_end bigint;
    pseudonyms uuid[];
    recorded timestamptz := current_instant();
BEGIN
    PERFORM begin_append();
    IF event_ids = '{}' OR 'visitor_erased' = ANY (types)
       OR EXISTS (SELECT FROM dropped_events d WHERE d.event_id = ANY (event_ids)) THEN
        RETURN NULL;
    END IF;
    WITH known AS MATERIALIZED (
        SELECT v.lookup, v.pseudonym FROM visitor_keys v WHERE v.lookup = ANY (lookups)
    ), made AS (
        INSERT INTO visitor_keys (lookup, epoch)
        SELECT u.lookup, u.epoch FROM unnest(lookups, epochs) AS u (lookup, epoch)
        WHERE u.lookup NOT IN (SELECT k.lookup FROM known k)
        RETURNING visitor_keys.lookup, visitor_keys.pseudonym
    )
    SELECT array_agg(v.pseudonym ORDER BY u.number) INTO pseudonyms
    FROM unnest(lookups) WITH ORDINALITY AS u (lookup, number)
    JOIN (SELECT * FROM known UNION ALL SELECT * FROM made) v USING (lookup);
    SELECT s.last_value - (NOT s.is_called)::integer INTO log_end FROM event_position s;
    INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe,
                           source, data, digest)
    SELECT log_end + u.number, u.event_id, types[u.kind], schema_versions[u.kind], u.occurred_at, recorded, pseudonyms[u.person],
           products[u.kind], channels[u.kind], u.probe, sources[u.kind], u.data, u.digest
    FROM unnest(event_ids, kinds, occurred, persons, probes, payloads, digests)
         WITH ORDINALITY AS u (event_id, kind, occurred_at, person, probe, data, digest, number);
    -- Not setval(), which could lead the sequence back if anybody drew from it without the lock.
    PERFORM count(nextval('event_position')) FROM generate_series(1, cardinality(event_ids));
    RETURN log_end + 1;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;
END $$;

-- Puts exported events back at their positions, after all that the log holds: into an empty log, or on from where an
-- earlier call stopped. What is there already is passed over; other events there, or these elsewhere, are an error (UB002), and
-- so is a gap larger than largest_gap() (UB007). All is checked before anything is written. Visitors are the pseudonyms of the
-- export, which nothing links to anybody any more. Answers how many events are new.
CREATE FUNCTION restore_events(
    positions bigint[], event_ids uuid[], types text[], schema_versions smallint[], occurred timestamptz[],
    recorded timestamptz[], visitors uuid[], products text[], channels text[], probes text[], sources text[],
    payloads jsonb[], digests uuid[]
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    log_end bigint;
    beyond bigint;
    restored bigint;
BEGIN
    PERFORM lock_event_log();
    log_end := last_position();
    IF EXISTS (
        SELECT FROM unnest(positions, event_ids, digests) AS g (position, event_id, digest)
        LEFT JOIN event_log e ON e.position = g.position
        LEFT JOIN dropped_events d ON d.event_id = g.event_id AND d.position = g.position
        WHERE g.position <= log_end AND (coalesce(e.event_id, d.event_id), coalesce(e.digest, d.digest))
                                        IS DISTINCT FROM (g.event_id, g.digest)
    ) THEN
        RAISE EXCEPTION 'the log holds other events up to position %', log_end USING ERRCODE = 'UB002';
    ELSIF EXISTS (
        SELECT FROM unnest(positions, event_ids) AS g (position, event_id)
        LEFT JOIN event_log e ON e.event_id = g.event_id
        LEFT JOIN dropped_events d ON d.event_id = g.event_id
        WHERE g.position > log_end AND (e.event_id IS NOT NULL OR d.event_id IS NOT NULL)
    ) THEN
        RAISE EXCEPTION 'the log holds some of these events at other positions, up to %', log_end USING ERRCODE = 'UB002';
    END IF;
    SELECT g.position INTO beyond FROM (
        SELECT p AS position, p - lag(p, 1, log_end) OVER (ORDER BY p) AS gap FROM unnest(positions) AS p WHERE p > log_end
    ) g WHERE g.gap > largest_gap() ORDER BY g.position LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'position % is more than % after the one before it', beyond, largest_gap() USING ERRCODE = 'UB007';
    END IF;
    INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product,
                           channel, probe, source, data, digest)
    SELECT g.position, g.event_id, g.type, g.schema_version, g.occurred_at, g.recorded_at, g.visitor,
           g.product, g.channel, g.probe, g.source, g.data, g.digest
    FROM unnest(positions, event_ids, types, schema_versions, occurred, recorded, visitors, products, channels, probes, sources,
                payloads, digests) AS g (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product,
                                         channel, probe, source, data, digest)
    WHERE g.position > log_end;
    GET DIAGNOSTICS restored = ROW_COUNT;
    PERFORM setval('event_position', greatest(log_end, (SELECT max(p) FROM unnest(positions) AS p)));
    RETURN restored;
END $$;

-- How far a position may be after the one before it where events are restored. Readers and folds go through the positions, some ten
-- thousand at a time: what nothing stands at costs them time, too, and positions end at 2^63.
CREATE FUNCTION largest_gap() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1000000000::bigint $$;

-- The way back from a gap larger than that, which restore_events() once let arise: events behind it take the positions directly
-- before it, in their order, and all that remembers a position goes with them. No event is deleted or changed otherwise. For the
-- owner, while no program runs: those that have read a position behind the gap would wait there.
CREATE FUNCTION close_gap(OUT gap_after bigint, OUT moved bigint, OUT log_end bigint)
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

-- Where what has come to a position will have come after close_gap(): to the last event up to there, wherever that will be.
CREATE FUNCTION position_moved_to(was_at bigint, gap_after bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN was_at <= gap_after THEN was_at ELSE (
        SELECT gap_after + count(*) FROM event_log e WHERE e.position > gap_after AND e.position <= was_at) END
$$;

-- Held from before the first position is drawn to the commit, which is durable whatever the server, the role or the session is
-- set to: who waits for the lock is about to acknowledge something.
CREATE FUNCTION lock_event_log() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- What the caller finds there already may be on this server alone: a commit whose wait for a synchronous standby was
    -- cancelled stays. With something of its own to commit, the caller waits for the standby, too, before it answers.
    PERFORM pg_logical_emit_message(true, 'glam', '');
    -- The weakest mode that excludes itself, and the only such one that needs no look at every session's locks.
    LOCK TABLE public.event_log_lock IN SHARE UPDATE EXCLUSIVE MODE;
    -- Calls under way while version 3 was installed wait for an advisory lock. They last less than a minute, for which both
    -- are taken.
    IF EXISTS (SELECT FROM public.schema_version v
               WHERE v.version = 3 AND v.installed_at > clock_timestamp() - interval '1 minute') THEN
        PERFORM pg_advisory_xact_lock(x'676c616d'::bigint);  -- 'glam'
    END IF;
END $$;

-- Has no rows: it is there to be locked. That takes a right, which only the owner has, as whom append_events() and the
-- transitions run; an advisory lock may be taken by anybody who may connect, and would stop all recording.
CREATE TABLE event_log_lock ();

-- Locks the log for who is about to draw positions from the sequence. Raises where it would give positions that readers have passed,
-- or none: no event is to blame for that.
CREATE FUNCTION begin_append() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    drawn bigint;
    log_end bigint;
BEGIN
    PERFORM lock_event_log();
    SELECT s.last_value - (NOT s.is_called)::integer, last_position() INTO drawn, log_end FROM event_position s;
    IF drawn < log_end THEN
        RAISE EXCEPTION 'the sequence of positions, at %, is behind the log, at %', drawn, log_end
            USING ERRCODE = 'insufficient_resources', HINT = 'SELECT setval(''event_position'', last_position())';
    ELSIF drawn > 9223372036854775807 - 1000000 THEN
        RAISE EXCEPTION 'the log, at %, is at the end of all positions', drawn
            USING ERRCODE = 'insufficient_resources', HINT = 'SELECT * FROM close_gap(); see docs/guides/operating.md';
    END IF;
END $$;

-- Proves that events can be recorded: the lock can be had, and a write be made durable. Raises what keeps them from being so.
CREATE TABLE recording_probe (
    probed_at timestamptz NOT NULL
);
INSERT INTO recording_probe VALUES (clock_timestamp());

CREATE FUNCTION probe_recording() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', '1500ms', true);
    PERFORM begin_append();
    UPDATE recording_probe SET probed_at = clock_timestamp();
END $$;

CREATE FUNCTION last_position() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(position), 0) FROM event_log
$$;

-- One event written by this service itself, within the transition that it records. Its id is new and it is of no visitor,
-- so there is nothing to judge as append_events() does: that took four times as long.
CREATE FUNCTION append_own_event(
    event_type text, event_product text, event_channel text, event_probe text, event_source text, payload jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    appended bigint;
BEGIN
    PERFORM begin_append();
    INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, product, channel, probe, source, data, digest)
    VALUES (nextval('event_position'), gen_random_uuid(), event_type, current_instant(), current_instant(), event_product,
            event_channel, event_probe, event_source, payload, md5(payload::text)::uuid)
    RETURNING position INTO appended;
    RETURN appended;
END $$;

---------------------------------------------------------------------------------------------------------------------
-- Projections: pure functions of the log, folded a batch of positions at a time, checkpoint and rows in one
-- transaction. Each fold gives the same rows for the same events in whatever order or batches they arrive.
--
-- A projection is a row here, the tables it fills, and a function fold_<name>(after_position, to_position) that finds
-- the tables by the search path. Beside the live one a `rebuild` (which takes its place) and a `verify` (which it is
-- compared with) may be filled: tables like the live ones, in a schema of their own.

CREATE TABLE projections (
    name         text        NOT NULL,
    stage        text        NOT NULL DEFAULT 'live',
    version      integer     NOT NULL,
    home         text        NOT NULL DEFAULT 'public',  -- the schema that its tables are in
    tables       text[]      NOT NULL,
    settings     jsonb       NOT NULL DEFAULT '{}',      -- part of the version: others need a rebuild
    definition   text,                                   -- of a projection that was added: its file
    position     bigint      NOT NULL DEFAULT 0,         -- every event up to here is folded
    changed_at   bigint      NOT NULL DEFAULT 0,         -- the position at which its rows last changed
    generation   uuid        NOT NULL DEFAULT gen_random_uuid(),  -- of these tables: a rebuild brings another
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    failed_at    timestamptz,
    failed_after bigint,                                 -- the event after this position could not be folded
    error        text,
    PRIMARY KEY (name, stage),
    CONSTRAINT stage_is_known CHECK (stage IN ('live', 'rebuild', 'verify')),
    CONSTRAINT failure_is_whole CHECK ((failed_at IS NULL) = (failed_after IS NULL) AND (failed_at IS NULL) = (error IS NULL))
);
INSERT INTO projections (name, version, tables, settings) VALUES
    ('build_costs', 1, '{build_costs}', '{}'),
    ('catalogue', 1, '{catalogue}', '{}'),
    ('journeys', 1, '{journey_events}', '{}'),
    ('popularity', 1, '{popularity_returns,popularity_series,popularity_views,popularity_visitors}', '{}'),
    ('releases', 1, '{build_revisions,release_publications,releases}', '{}'),
    ('sessions', 1, '{session_counts,sessions}', '{"gap_minutes": 30, "own_hosts": ["glam.telemetry.mozilla.org"]}'),
    ('timeseries', 1, '{probe_hours}', '{}');

-- Events that a projection could not fold: it went on without them. Of the event nothing but its position and what the database
-- said of it, so that there is nothing here to erase.
CREATE TABLE dead_letters (
    projection   text        NOT NULL,
    stage        text        NOT NULL,
    position     bigint      NOT NULL,
    sqlstate     text        NOT NULL,
    error        text        NOT NULL CONSTRAINT error_is_short CHECK (length(error) <= 500),
    set_aside_at timestamptz NOT NULL,
    PRIMARY KEY (projection, stage, position),
    CONSTRAINT projection_is_known FOREIGN KEY (projection, stage) REFERENCES projections (name, stage)
        ON UPDATE CASCADE ON DELETE CASCADE
);

-- As many as a projection sets aside before it stops: where so many fail, the fold is at fault and not the events.
CREATE FUNCTION most_dead_letters() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1000 $$;

-- How far each is, how many events and for how long it is behind, what it cannot go on with, and the first of what it set aside.
CREATE VIEW projection_status AS
    SELECT p.name, p.stage, p.version, p.settings, p.position, p.changed_at, p.generation, p.updated_at,
           last_position() - p.position AS behind,
           coalesce(extract(epoch FROM current_instant() - (
               SELECT e.recorded_at FROM event_log e WHERE e.position > p.position ORDER BY e.position LIMIT 1
           ))::float8, 0) AS behind_seconds,
           p.failed_at, p.failed_after, p.error,
           (SELECT count(*) FROM dead_letters d WHERE d.projection = p.name AND d.stage = p.stage) AS set_aside,
           (
               SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'position', d.position, 'sqlstate', d.sqlstate, 'error', d.error, 'set_aside_at', d.set_aside_at
               ) ORDER BY d.position), '[]')
               FROM (
                   SELECT * FROM dead_letters d WHERE d.projection = p.name AND d.stage = p.stage ORDER BY d.position LIMIT 10
               ) d
           ) AS dead_letters
    FROM projections p;

-- Whether nobody else moves a projection until the end of the transaction; also where there is none. A lock on its row, because
-- an advisory lock may be taken by anybody.
CREATE FUNCTION lock_projection(projection text, at_stage text, OUT locked boolean) LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.stage = at_stage)
        OR EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.stage = at_stage FOR NO KEY UPDATE SKIP LOCKED)
$$;

-- Folds the next batch of a projection: its position before and after, the end of the log (for what is filled for
-- verification: of what the live one has folded), and how many of these events it set aside. At most one caller at a time
-- folds a projection; the others return at once, unmoved. Raises UB004 when there is no such projection.
CREATE FUNCTION advance_projection(
    projection text, batch_size integer, at_stage text DEFAULT 'live', OUT was_at bigint, OUT now_at bigint,
    OUT log_end bigint, OUT set_aside bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_projection projections := find_projection(projection, at_stage);
BEGIN
    was_at := found_projection.position;
    now_at := was_at;
    log_end := CASE at_stage WHEN 'verify' THEN (find_projection(projection, 'live')).position ELSE last_position() END;
    IF log_end > was_at AND lock_projection(projection, at_stage) THEN
        found_projection := find_projection(projection, at_stage);  -- again, now that nobody moves it
        was_at := found_projection.position;
        now_at := fold_projection(found_projection, least(was_at + batch_size, log_end));
    END IF;
    SELECT count(*) INTO set_aside FROM dead_letters d
    WHERE d.projection = found_projection.name AND d.stage = at_stage AND d.position > was_at AND d.position <= now_at;
END $$;

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

CREATE FUNCTION find_projection(projection text, at_stage text) RETURNS projections LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_projection projections;
BEGIN
    SELECT * INTO found_projection FROM projections p WHERE p.name = projection AND p.stage = at_stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no % projection %', at_stage, projection USING ERRCODE = 'UB004';
    END IF;
    RETURN found_projection;
END $$;

-- Folds up to a position, for who holds the projection's lock. Answers where it is then. A verification leaves out what the
-- live projection has set aside.
CREATE FUNCTION fold_projection(of_projection projections, to_position bigint) RETURNS bigint
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


-- Folds the events at these positions. Answers whether any row has changed.
CREATE FUNCTION fold_ranges(of_projection projections, ranges int8multirange) RETURNS boolean
-- The search path is put back on return. Batches are large: their sorts are to fit into memory. Folds ask the planner not to read
-- all of a table, at prices so high that each would be compiled first, which takes longer than it.
LANGUAGE plpgsql SET search_path = public, pg_temp SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    part int8range;
    has_changed boolean := false;
BEGIN
    -- Rows and checkpoint are lost together or not at all, and what is lost is folded again: no need to wait for a disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM set_config('usage.projection', of_projection.settings::text, true);
    PERFORM set_config('search_path', concat_ws(', ', quote_ident(of_projection.home), (
        SELECT quote_ident(p.home) FROM public.projections p WHERE p.name = of_projection.name AND p.stage = 'live'
    ), 'public', 'pg_temp'), true);
    FOR part IN SELECT unnest(ranges) LOOP
        IF public.fold_range(of_projection, lower(part) - 1, upper(part) - 1) THEN
            has_changed := true;
        END IF;
    END LOOP;
    RETURN has_changed;
END $$;

-- Folds the events after a position up to another, under the settings that fold_ranges() has made. Where what they hold cannot
-- be folded, half of them after the other, until the events at fault are alone: they are set aside. Any other error is not
-- theirs (a disk is full, a table is not there, the time is over) and is raised. Answers whether any row has changed.
CREATE FUNCTION fold_range(of_projection projections, after_position bigint, to_position bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    middle bigint := after_position + (to_position - after_position) / 2;
    written text;
    settings_before text;
    has_changed boolean;
    state text;
    message text;
BEGIN
    -- A few events are folded sooner than the statement is planned: its plan for small batches is kept by the session.
    PERFORM set_config('plan_cache_mode', CASE WHEN to_position - after_position < 5000 THEN 'force_generic_plan' ELSE 'auto' END, true);
    BEGIN
        IF of_projection.definition IS NULL THEN
            EXECUTE format('SELECT %I($1, $2)', 'fold_' || of_projection.name) INTO written USING after_position, to_position;
        ELSE
            settings_before := public.session_settings(pg_catalog.current_setting('search_path'));
            EXECUTE format('SELECT public.%I($1, $2, $3)', 'run_as_' || of_projection.name) INTO written
            USING format('SELECT %I($1, $2)', 'fold_' || of_projection.name), after_position, to_position;
            PERFORM public.require_confinement(of_projection.name, settings_before, pg_catalog.current_setting('search_path'));
        END IF;
        RETURN written IS DISTINCT FROM '0';
    EXCEPTION
        WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded OR plpgsql_error THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    IF to_position - after_position > 1 THEN
        has_changed := public.fold_range(of_projection, after_position, middle);
        IF public.fold_range(of_projection, middle, to_position) THEN  -- joined by OR it would not be called where the first is true
            has_changed := true;
        END IF;
        RETURN has_changed;
    END IF;
    PERFORM public.set_aside(of_projection, to_position, state, message);
    RETURN false;
END $$;

-- Sets aside an event that a projection cannot fold. Raises UB008 where there are too many already, and where there is no event.
CREATE FUNCTION set_aside(of_projection projections, at_position bigint, state text, message text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT count(*) FROM dead_letters d WHERE d.projection = of_projection.name AND d.stage = of_projection.stage)
       >= most_dead_letters() THEN
        RAISE EXCEPTION '% events are set aside already, so the fold seems to be at fault: %', most_dead_letters(), message
            USING ERRCODE = 'UB008';
    END IF;
    INSERT INTO dead_letters (projection, stage, position, sqlstate, error, set_aside_at)
    SELECT of_projection.name, of_projection.stage, e.position, state, left(message, 500), current_instant()
    FROM event_log e WHERE e.position = at_position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the fold fails without an event: %', message USING ERRCODE = 'UB008';
    END IF;
END $$;

-- Folds the events at these positions, which were set aside, after all that came later: the rows are the same. They are then of
-- another generation, because the position at which they last changed stays. Those that fail again are set aside again.
CREATE FUNCTION refold_dead_letters(of_projection projections, positions bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    ranges int8multirange;
BEGIN
    WITH taken AS (
        DELETE FROM dead_letters d
        WHERE d.projection = of_projection.name AND d.stage = of_projection.stage AND d.position = ANY (positions)
        RETURNING d.position
    )
    SELECT range_agg(int8range(t.position, t.position, '[]')) INTO ranges FROM taken t;
    IF ranges IS NOT NULL AND fold_ranges(of_projection, ranges) THEN
        UPDATE projections p SET generation = gen_random_uuid(), updated_at = clock_timestamp()
        WHERE p.name = of_projection.name AND p.stage = of_projection.stage;
    END IF;
END $$;

-- Takes up again what a live projection has set aside. Answers how many events are folded now, and how many still cannot be. For
-- folds that are built in: one that was added may depend on the order of positions (UB009), so that it has to be rebuilt.
CREATE FUNCTION retry_dead_letters(projection text, OUT folded bigint, OUT still_set_aside bigint)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    live projections;
    positions bigint[];
BEGIN
    PERFORM FROM projections p WHERE p.name = projection AND p.stage = 'live' FOR NO KEY UPDATE;  -- nobody folds it meanwhile
    live := find_projection(projection, 'live');
    IF live.definition IS NOT NULL THEN
        RAISE EXCEPTION 'the fold of % was added, and may depend on the order of events', projection USING ERRCODE = 'UB009',
            HINT = 'rebuild it: usage-service projections rebuild ' || projection;
    END IF;
    positions := ARRAY(SELECT d.position FROM dead_letters d WHERE d.projection = live.name AND d.stage = 'live');
    PERFORM refold_dead_letters(live, positions);
    SELECT count(*) INTO still_set_aside FROM dead_letters d WHERE d.projection = live.name AND d.stage = 'live';
    folded := cardinality(positions) - still_set_aside;
END $$;

-- Gives up what a live projection has set aside: it is left out for good. Answers how many events that were.
CREATE FUNCTION discard_dead_letters(of_projection text) RETURNS bigint LANGUAGE sql SET search_path = public, pg_temp AS $$
    WITH discarded AS (DELETE FROM dead_letters WHERE projection = of_projection AND stage = 'live' RETURNING 1)
    SELECT count(*) FROM discarded
$$;

-- Remembers which event a projection cannot fold, and why; folding on clears it.
CREATE FUNCTION fail_projection(projection text, at_stage text, after_position bigint, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE projections SET
        failed_after = after_position, error = why,
        failed_at = CASE WHEN failed_after = after_position THEN failed_at ELSE current_instant() END
    WHERE name = projection AND stage = at_stage AND position = after_position
$$;

-- Has no rows: it is there to be locked, by who begins to fill a projection. Of two who begin the same at once, the second
-- waits and finds it begun.
CREATE TABLE filling_lock ();

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

-- Makes the role of an added projection, and the function run_as_<name> in which alone its statements run, as that role: within a
-- function that is SECURITY DEFINER no statement can take another. Answers the role. It owns the projection's schemas and what is in
-- them, nothing else is its own, and it reads what usage_projections may. Roles are the cluster's, so it has the database's number.
CREATE FUNCTION make_projection_role(projection text) RETURNS name LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    made name := format('usage_%s_%s', (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), projection);
    runner text := format('run_as_%s(text, bigint, bigint)', projection);
BEGIN
    IF to_regprocedure(runner) IS NOT NULL THEN
        RETURN (SELECT p.proowner::regrole::name FROM pg_proc p WHERE p.oid = to_regprocedure(runner));
    END IF;
    IF to_regrole(made) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN IN ROLE usage_projections', made);
        IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', made);
        END IF;
    END IF;
    EXECUTE format($runner$
        CREATE FUNCTION %I(statements text, after_position bigint DEFAULT NULL, to_position bigint DEFAULT NULL) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER AS $run$
        DECLARE
            answer text;
        BEGIN
            IF to_position IS NULL THEN
                EXECUTE statements;
            ELSE
                EXECUTE statements INTO answer USING after_position, to_position;
            END IF;
            RETURN answer;
        END $run$
    $runner$, 'run_as_' || projection);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', runner);
    EXECUTE format('GRANT CREATE ON SCHEMA public TO %I', made);  -- a new owner must be one that might create it
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', runner, made);
    EXECUTE format('REVOKE CREATE ON SCHEMA public FROM %I', made);
    RETURN made;
END $$;

-- What the session is set to that changes what later statements mean or how long they wait, beside the given search path.
CREATE FUNCTION session_settings(of_path text) RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT string_agg(coalesce(current_setting(s, true), ''), '|') || '|' || of_path
    FROM unnest(ARRAY[
        'usage.now', 'timezone', 'datestyle', 'intervalstyle', 'bytea_output', 'client_encoding', 'extra_float_digits',
        'standard_conforming_strings', 'transform_null_equals', 'row_security', 'statement_timeout', 'lock_timeout',
        'idle_in_transaction_session_timeout', 'synchronous_commit', 'default_transaction_isolation',
        'default_transaction_read_only', 'session_replication_role']) s
$$;

-- Raises UB007 where statements of others left something that would act after them, with the rights of whoever is next: work put
-- off until the commit, policies and tables that get in the way of readers, settings of the session, other ways to be run.
-- Called by its full name: the search path may be theirs.
CREATE FUNCTION require_confinement(projection text, settings_before text, path_after text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    runner oid := to_regprocedure(format('run_as_%s(text, bigint, bigint)', projection));
    relations oid[];
    routines oid[];
    what text;
BEGIN
    -- A member of usage_projections may give it what it owns.
    SELECT array_agg(d.objid) FILTER (WHERE d.classid = 'pg_class'::regclass), array_agg(d.objid) FILTER (WHERE d.classid = 'pg_proc'::regclass)
    INTO relations, routines
    FROM pg_shdepend d
    WHERE d.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()) AND d.refclassid = 'pg_authid'::regclass
      AND d.refobjid IN (SELECT p.proowner FROM pg_proc p WHERE p.oid = runner UNION ALL SELECT 'usage_projections'::regrole)
      AND d.deptype = 'o';
    what := CASE
        WHEN NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = runner AND p.prosecdef)
            THEN format('changes to %s(), which is SECURITY DEFINER', 'run_as_' || projection)
        WHEN session_settings(path_after) <> settings_before
            THEN 'SET of a search path, time zone, time-out or the like; their functions may: CREATE FUNCTION ... SET ...'
        WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY (relations) AND t.tgdeferrable)
            THEN 'DEFERRABLE constraints or triggers'
        WHEN EXISTS (SELECT FROM pg_cursors c WHERE c.is_holdable) THEN 'cursors WITH HOLD'
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (relations) AND c.relpersistence = 't') THEN 'temporary tables'
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (relations) AND c.relrowsecurity) THEN 'row level security'
        -- Functions in them run with the rights of who reads.
        WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY (relations) AND c.relkind IN ('v', 'm', 'f')) THEN 'views or foreign tables'
        WHEN EXISTS (SELECT FROM pg_cast c WHERE c.castfunc = ANY (routines)) THEN 'casts by functions'
        WHEN EXISTS (SELECT FROM pg_proc p WHERE p.oid = ANY (routines) AND p.prosecdef AND p.oid <> runner)
            THEN 'functions that are SECURITY DEFINER'
    END;
    IF what IS NOT NULL THEN
        RAISE EXCEPTION 'the statements of a projection may have no %', what USING ERRCODE = 'UB007';
    END IF;
END $$;

-- Defines a projection by statements that create its tables and fold_<name>(bigint, bigint), to be filled from the
-- beginning, or finds it begun with the same: answers its generation. They run, and the fold will, as the projection's role:
-- it may read the log and the projections that are there, and write its own tables.
CREATE FUNCTION define_projection(projection text, to_stage text, statements text) RETURNS uuid
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    new_home text := to_stage || '_' || projection;
    begun projections;
    settings_before text;
    fold regprocedure;
    filled_tables text[];
BEGIN
    LOCK TABLE filling_lock IN SHARE UPDATE EXCLUSIVE MODE;
    IF projection !~ '^[a-z][a-z0-9_]{0,40}$' OR projection ~ '^(pg|rebuild|verify)_' OR EXISTS (
        SELECT FROM pg_namespace n WHERE n.nspname = projection
          AND NOT EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.home = projection)
    ) OR EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.home = 'public') THEN
        RAISE EXCEPTION 'a projection cannot be named %', projection USING ERRCODE = 'invalid_name',
            HINT = 'take another name: at most 41 small letters, digits and _, that is neither of a schema nor of a projection '
                   'that is built in, and does not begin with pg_, rebuild_ or verify_';
    END IF;
    SELECT * INTO begun FROM projections p WHERE p.name = projection AND p.stage = to_stage;
    IF begun.definition = statements THEN
        RETURN begun.generation;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'another file of % is being filled at this moment', projection USING ERRCODE = 'object_in_use';
    END IF;
    PERFORM require_whole_log();
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', new_home, make_projection_role(projection));
    PERFORM set_config('search_path', quote_ident(new_home) || ', public, pg_temp', true);
    settings_before := session_settings(current_setting('search_path'));
    EXECUTE format('SELECT public.%I($1)', 'run_as_' || projection) USING statements;
    PERFORM public.require_confinement(projection, settings_before, pg_catalog.current_setting('search_path'));
    PERFORM set_config('search_path', 'public, pg_temp', true);
    fold := to_regprocedure(format('%I.%I(bigint, bigint)', new_home, 'fold_' || projection));
    filled_tables := ARRAY(SELECT t.tablename::text FROM pg_tables t WHERE t.schemaname = new_home ORDER BY 1);
    IF fold IS NULL OR filled_tables = '{}' THEN
        RAISE EXCEPTION 'the statements create no %',
            CASE WHEN fold IS NULL THEN format('function fold_%s(after_position bigint, to_position bigint)', projection) ELSE 'table' END
            USING ERRCODE = 'invalid_function_definition';
    END IF;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', fold);  -- else whoever calls it counts twice
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO usage_server, usage_reader, usage_projections', new_home);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO usage_server, usage_reader, usage_projections', new_home);
    INSERT INTO projections (name, stage, version, home, tables, definition)
    VALUES (projection, to_stage, coalesce((
        SELECT p.version + (p.definition <> statements)::integer FROM projections p WHERE p.name = projection AND p.stage = 'live'
    ), 1), new_home, filled_tables, statements)
    RETURNING * INTO begun;
    RETURN begun.generation;
END $$;

-- Drops what is filled beside a live projection, or a live one that was added. Answers whether there was any.
CREATE FUNCTION drop_projection(projection text, at_stage text) RETURNS boolean
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    dropped projections;
    of_role name;
BEGIN
    DELETE FROM projections p WHERE p.name = projection AND p.stage = at_stage AND p.home <> 'public'
    RETURNING * INTO dropped;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', dropped.home);
    IF NOT EXISTS (SELECT FROM projections p WHERE p.name = projection) THEN
        of_role := make_projection_role(projection);
        EXECUTE format('DROP FUNCTION %I', 'run_as_' || projection);
        BEGIN
            EXECUTE format('DROP ROLE %I', of_role);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;  -- a copy of this database, restored beside it, has the projection still
        END;
    END IF;
    RETURN true;
END $$;

-- Puts a rebuilt projection in the place of the live one, once it is no more than `most_left` positions behind it:
-- they are folded here, so that readers go from one to the other at one position, and never back. Answers the position,
-- or null when it has to be tried again.
CREATE FUNCTION swap_projection(projection text, most_left bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    live projections;
    rebuilt projections;
    target bigint;
BEGIN
    IF NOT lock_projection(projection, 'rebuild') OR NOT lock_projection(projection, 'live') THEN
        RETURN NULL;  -- somebody folds it just now
    END IF;
    rebuilt := find_projection(projection, 'rebuild');
    SELECT * INTO live FROM projections p WHERE p.name = projection AND p.stage = 'live';
    target := coalesce(live.position, last_position());
    IF target - rebuilt.position > most_left THEN
        RETURN NULL;
    END IF;
    target := fold_projection(rebuilt, target);
    PERFORM set_config('synchronous_commit', 'on', true);
    -- Readers queue behind who waits for this lock: not for long. And for less than deadlock_timeout, so that it is never
    -- a reader that is ended, should one hold a later table and want an earlier one.
    PERFORM set_config('lock_timeout', '800', true);
    IF live.home = 'public' THEN
        PERFORM move_objects(rebuilt, live);
    ELSE
        PERFORM drop_projection(projection, 'live');
        EXECUTE format('ALTER SCHEMA %I RENAME TO %I', rebuilt.home, projection);
    END IF;
    DELETE FROM projections p WHERE p.name = projection AND p.stage = 'live';
    UPDATE projections p SET
        stage = 'live', home = coalesce(live.home, projection), changed_at = p.position, updated_at = clock_timestamp()
    WHERE p.name = projection AND p.stage = 'rebuild';
    RETURN target;
END $$;

-- Tables, and a fold where the rebuilt projection brings its own, replace those of the live one.
CREATE FUNCTION move_objects(rebuilt projections, live projections) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved_table text;
    moved_function regprocedure;
BEGIN
    FOREACH moved_table IN ARRAY live.tables LOOP
        EXECUTE format('DROP TABLE %I.%I', live.home, moved_table);
    END LOOP;
    FOREACH moved_table IN ARRAY rebuilt.tables LOOP
        EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', rebuilt.home, moved_table, live.home);
    END LOOP;
    FOR moved_function IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = rebuilt.home::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %I.%I(bigint, bigint)', live.home, 'fold_' || live.name);
        EXECUTE format('ALTER FUNCTION %s SET SCHEMA %I', moved_function, live.home);
    END LOOP;
    EXECUTE format('DROP SCHEMA %I', rebuilt.home);
END $$;

-- Folds what is filled for verification to the very position of the live projection, which stands still until the end
-- of the transaction, with what that has taken up again meanwhile. Answers that position, or null while either is being folded.
CREATE FUNCTION align_projection(projection text) RETURNS bigint LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    target bigint;
BEGIN
    IF NOT lock_projection(projection, 'verify') OR NOT lock_projection(projection, 'live') THEN
        RETURN NULL;
    END IF;
    target := fold_projection(find_projection(projection, 'verify'), (find_projection(projection, 'live')).position);
    PERFORM refold_dead_letters(find_projection(projection, 'verify'), ARRAY(
        SELECT d.position FROM dead_letters d WHERE d.projection = align_projection.projection AND d.stage = 'verify'
        EXCEPT SELECT d.position FROM dead_letters d WHERE d.projection = align_projection.projection AND d.stage = 'live'
    ));
    RETURN target;
END $$;

-- How many rows a table has and a hash of them, whatever their order.
CREATE FUNCTION hash_table(in_schema text, of_table text, OUT number bigint, OUT hash text) LANGUAGE plpgsql STABLE AS $$
BEGIN
    EXECUTE format(
        'SELECT count(*), md5(concat(count(*), sum(hashtextextended(ROW(t.*)::text, 1)::numeric), sum(hashtextextended(ROW(t.*)::text, 2)::numeric))) FROM %I.%I t',
        in_schema, of_table) INTO number, hash;
END $$;

-- Rows of a table of the live projection that the verification does not have, and the other way round.
CREATE FUNCTION differing_rows(projection text, of_table text, at_most integer)
RETURNS TABLE (only_in text, row_text text) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    live_home text := (find_projection(projection, 'live')).home;
    verify_home text := (find_projection(projection, 'verify')).home;
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT ''live'', t FROM (SELECT ROW(l.*)::text FROM %1$I.%3$I l EXCEPT ALL SELECT ROW(v.*)::text FROM %2$I.%3$I v LIMIT $1) x (t) '
        'UNION ALL '
        'SELECT ''rebuilt'', t FROM (SELECT ROW(v.*)::text FROM %2$I.%3$I v EXCEPT ALL SELECT ROW(l.*)::text FROM %1$I.%3$I l LIMIT $1) x (t)',
        live_home, verify_home, of_table) USING at_most;
END $$;

-- A setting of the projection that is being folded, or null.
CREATE FUNCTION projection_setting(setting text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('usage.projection', true), '')::jsonb -> setting
$$;

-- Names -----------------------------------------------------------------------------------------------------------

-- So many names of a kind are kept of a session, or of a probe's pings, and one more to tell that there are others. Nobody comes to
-- a hundred; a program that walks through all names would have each event write all of them again.
CREATE FUNCTION most_names() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 100 $$;

-- Where a name is among all names, from 0 to 1: as if by chance, always the same.
CREATE FUNCTION name_hash(name text) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (('x' || left(md5(name), 8))::bit(32)::bigint + 1) / 4294967296.0::float8
$$;

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
CREATE FUNCTION kept_names(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT add_names('{}', names) $$;

-- About how many names there are beyond the most that are told: of hashes that are spread evenly the one after the most_names()
-- least is where it is because there are so many. One in three estimates is off by more than a tenth.
CREATE FUNCTION names_beyond(kept text[]) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(kept) <= most_names() THEN 0
        ELSE greatest(1, least(round(most_names() / name_hash(kept[most_names() + 1])) - most_names(), 1000000000))::integer END
$$;

-- Catalogue -------------------------------------------------------------------------------------------------------

-- What a probe's columns can hold, and whether the builder of this version can aggregate it.
CREATE TABLE metric_types (
    metric_type text    PRIMARY KEY,
    buildable   boolean NOT NULL
);
INSERT INTO metric_types VALUES
    ('boolean', true), ('counter', true), ('quantity', true), ('timespan', true), ('labeled_boolean', true),
    ('labeled_counter', true), ('dual_labeled_counter', true), ('timing_distribution', true),
    ('memory_distribution', true), ('custom_distribution', true), ('labeled_timing_distribution', true),
    ('labeled_memory_distribution', true), ('labeled_custom_distribution', true),
    ('event', false), ('string', false), ('string_list', false), ('labeled_string', false), ('uuid', false),
    ('url', false), ('datetime', false), ('rate', false), ('text', false), ('object', false),
    ('labeled_quantity', false);

CREATE TABLE catalogue (
    product       text NOT NULL,
    probe         text NOT NULL,
    metric_type   text,         -- null: built or retired, but never registered
    pings         text[] NOT NULL,  -- every ping that it was ever registered for (see kept_names)
    registered_at timestamptz,  -- first registered
    described_at  timestamptz,  -- last registered: the type is from then
    definition    jsonb,        -- of its buckets or labels, as last given
    defined_at    timestamptz,
    retired_at    timestamptz,
    built_at      timestamptz,  -- last built by the ETL, any channel
    details       jsonb,        -- what people read of it, as last given
    detailed_at   timestamptz,
    PRIMARY KEY (product, probe)
);
CREATE INDEX catalogue_names ON catalogue USING gin (probe gin_trgm_ops);

-- What a registration says of a probe's buckets or labels, or null where it says nothing.
CREATE FUNCTION probe_definition(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(data)
    WHERE key IN ('histogram_type', 'range_min', 'range_max', 'bucket_count', 'labels') AND value <> 'null'
$$;

-- What a registration says of a probe for people to read, or null where it says nothing.
CREATE FUNCTION probe_details(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(data)
    WHERE key IN ('description', 'owners', 'expires', 'disabled', 'link', 'time_unit', 'memory_unit', 'unit') AND value <> 'null'
$$;

-- The latest registration says the type, the latest that has them the definition and the details (at the same instant the
-- larger one, so that the order of arrival does not matter); a probe is sent in every ping that it was ever registered for.
CREATE FUNCTION fold_catalogue(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH written AS (INSERT INTO catalogue AS c (
        product, probe, metric_type, definition, details, pings, registered_at, described_at, defined_at, detailed_at, retired_at,
        built_at)
    SELECT product, probe,
           (array_agg(data ->> 'type' ORDER BY occurred_at DESC, data ->> 'type' DESC)
                FILTER (WHERE type = 'probe_registered'))[1],
           (array_agg(definition ORDER BY occurred_at DESC, definition::text COLLATE "C" DESC)
                FILTER (WHERE definition IS NOT NULL))[1],
           (array_agg(details ORDER BY occurred_at DESC, details::text COLLATE "C" DESC)
                FILTER (WHERE details IS NOT NULL))[1],
           kept_names(array_agg(DISTINCT coalesce(data ->> 'ping', 'metrics')) FILTER (WHERE type = 'probe_registered')),
           min(occurred_at) FILTER (WHERE type = 'probe_registered'),
           max(occurred_at) FILTER (WHERE type = 'probe_registered'),
           max(occurred_at) FILTER (WHERE definition IS NOT NULL),
           max(occurred_at) FILTER (WHERE details IS NOT NULL),
           max(occurred_at) FILTER (WHERE type = 'probe_retired'),
           max(occurred_at) FILTER (WHERE type = 'probe_built')
    FROM event_log
    LEFT JOIN LATERAL probe_definition(data) AS definition ON type = 'probe_registered'
    LEFT JOIN LATERAL probe_details(data) AS details ON type = 'probe_registered'
    WHERE position > after_position AND position <= to_position
      AND type IN ('probe_registered', 'probe_retired', 'probe_built')
    GROUP BY product, probe
    ON CONFLICT (product, probe) DO UPDATE SET
        metric_type = CASE
            WHEN c.described_at IS NULL
              OR (excluded.described_at, excluded.metric_type) > (c.described_at, c.metric_type)
            THEN excluded.metric_type ELSE c.metric_type END,
        definition = CASE
            WHEN c.defined_at IS NULL
              OR (excluded.defined_at, excluded.definition::text COLLATE "C") > (c.defined_at, c.definition::text)
            THEN excluded.definition ELSE c.definition END,
        details = CASE
            WHEN c.detailed_at IS NULL
              OR (excluded.detailed_at, excluded.details::text COLLATE "C") > (c.detailed_at, c.details::text)
            THEN excluded.details ELSE c.details END,
        pings = kept_names(c.pings || excluded.pings),
        registered_at = least(c.registered_at, excluded.registered_at),
        described_at = greatest(c.described_at, excluded.described_at),
        defined_at = greatest(c.defined_at, excluded.defined_at),
        detailed_at = greatest(c.detailed_at, excluded.detailed_at),
        retired_at = greatest(c.retired_at, excluded.retired_at),
        built_at = greatest(c.built_at, excluded.built_at)
    RETURNING 1)
    SELECT count(*) FROM written
$$;

-- Popularity ------------------------------------------------------------------------------------------------------

-- A probe as people or as bots view it. Its number is made from its names, so that every rebuild gives it the same.
CREATE TABLE popularity_series (
    series  bigint  PRIMARY KEY,
    product text    NOT NULL,
    probe   text    NOT NULL,
    bot     boolean NOT NULL
);

-- Views in buckets of a day, and of 1, 4 and 16 weeks that ended before the week of the latest day: any window is the sum of
-- few buckets.
CREATE TABLE popularity_views (
    days      smallint NOT NULL CONSTRAINT bucket_is_of_days_or_weeks CHECK (days IN (1, 7, 28, 112)),
    first_day date     NOT NULL,
    series    bigint   NOT NULL,
    channel   text     NOT NULL,  -- '' where the event named none
    found     integer  NOT NULL,  -- views of data that was there
    missing   integer  NOT NULL,  -- views of a probe that was not built
    PRIMARY KEY (days, first_day, series, channel)
);

CREATE TABLE popularity_visitors (
    series  bigint NOT NULL,
    visitor uuid   NOT NULL,
    day     date   NOT NULL,
    channel text   NOT NULL,
    PRIMARY KEY (series, visitor, day, channel)
);

-- How many visitors of a day, by one channel or by whichever, were there last (by it) on which day before. The distinct visitors
-- of a window are those of each of its days who were not there before within the window: counted without reading visitors.
CREATE TABLE popularity_returns (
    series       bigint  NOT NULL,
    channel      text    NOT NULL,  -- '*': whichever, or none
    day          date    NOT NULL,
    previous_day date    NOT NULL,  -- -infinity: never before
    visitors     integer NOT NULL CONSTRAINT somebody_returned CHECK (visitors > 0),
    PRIMARY KEY (series, channel, day, previous_day)
);

CREATE FUNCTION series_number(product text, probe text, bot boolean) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(md5(product || ' ' || probe || CASE WHEN bot THEN ' bot' ELSE '' END), 16))::bit(64)::bigint
$$;

-- The first day, a Monday, of the bucket of `days` days (whole weeks) that a day is in.
CREATE FUNCTION bucket_start(day date, days integer) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT day - ((day - '2000-01-03'::date) % days + days) % days
$$;

-- Whoever folds is alone (advance_projection), so rows are looked for and then updated or inserted: half the cost of
-- ON CONFLICT. NOT IN, not NOT EXISTS: its set is hashed however few rows are expected.
CREATE FUNCTION fold_popularity(after_position bigint, to_position bigint) RETURNS bigint
-- Whatever the planner believes of the tables: what is touched is found by its key, not by reading all.
LANGUAGE sql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_memoize = off AS $$
    -- Numbered row by row: joined with numbers of the names, it would depend on what the planner believes of their number.
    WITH viewed AS MATERIALIZED (
        SELECT product, probe, data @> '{"bot": true}' AS bot, utc_day(occurred_at) AS day, coalesce(channel, '') AS channel,
               visitor, (data -> 'found')::boolean AS found,
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
        SELECT day, series, channel, count(*) FILTER (WHERE found) AS found, count(*) FILTER (WHERE found IS NOT TRUE) AS missing
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

-- The longest part of a window, from `since` to before `until`, that is made of whole buckets of `days` days which have ended
-- when the week `ended` begins; what is before and after it is left to shorter buckets.
CREATE FUNCTION whole_buckets(since date, until date, days integer, ended date, OUT first date, OUT beyond date)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN s.first < s.beyond THEN s.first ELSE until END, CASE WHEN s.first < s.beyond THEN s.beyond ELSE until END
    FROM (SELECT bucket_start(since + days - 1, days) AS first, bucket_start(least(until, ended), days) AS beyond) s
$$;

-- The buckets that a window is made of: `days` in each, and the first day of the first and of the last.
CREATE FUNCTION window_buckets(first_day date, last_day date, OUT days integer, OUT since date, OUT until date) RETURNS SETOF record
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

-- Distinct visitors of a series in a window, by a channel or by whichever ('*').
CREATE FUNCTION window_visitors(of_series bigint, by_channel text, first_day date, last_day date) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(r.visitors), 0) FROM popularity_returns r
    WHERE r.series = of_series AND r.channel = by_channel AND r.day BETWEEN first_day AND last_day AND r.previous_day < first_day
$$;

-- Those of a series who are visitors of another one, too: of people's, if they browse with a bot's name at times.
CREATE FUNCTION shared_visitors(of_series bigint, of_other bigint, by_channel text, first_day date, last_day date) RETURNS bigint
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT count(*)
    FROM (
        SELECT DISTINCT v.visitor FROM popularity_visitors v
        WHERE v.series = of_series AND v.day BETWEEN first_day AND last_day AND by_channel IN ('*', v.channel)
    ) s
    WHERE EXISTS (
        SELECT FROM popularity_visitors v
        WHERE v.series = of_other AND v.visitor = s.visitor AND v.day BETWEEN first_day AND last_day
          AND by_channel IN ('*', v.channel)
    )
$$;

-- Releases --------------------------------------------------------------------------------------------------------

CREATE TABLE releases (
    product      text        NOT NULL,
    channel      text        NOT NULL,
    version      integer     NOT NULL,
    published_at timestamptz NOT NULL,  -- first published
    PRIMARY KEY (product, channel, version)
);

-- Of which revision of the source a build is: of each hour the last build, because rows are of an hour's builds together.
CREATE TABLE build_revisions (
    product    text NOT NULL,
    channel    text NOT NULL,
    build_hour text NOT NULL,  -- YYYYMMDDHH, as in probe_rows
    build_id   text NOT NULL COLLATE "C",
    revision   text NOT NULL COLLATE "C",
    PRIMARY KEY (product, channel, build_hour)
);

-- Every instant at which a version was ever said to have been published.
CREATE TABLE release_publications (
    product      text        NOT NULL,
    channel      text        NOT NULL,
    version      integer     NOT NULL,
    published_at timestamptz NOT NULL,
    stated_at    timestamptz,  -- when this was last said
    retracted_at timestamptz,  -- when it was last taken back
    PRIMARY KEY (product, channel, version, published_at)
);

-- The latest word on an instant counts; a retraction beats what was said at its own instant. A version was published at the
-- earliest instant that stands, and never if none does.
CREATE FUNCTION fold_releases(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO release_publications AS p (product, channel, version, published_at, stated_at, retracted_at)
    SELECT product, channel, (data ->> 'version')::integer, coalesce((data ->> 'published_at')::timestamptz, occurred_at),
           max(occurred_at) FILTER (WHERE type = 'release_published'),
           max(occurred_at) FILTER (WHERE type = 'release_retracted')
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type IN ('release_published', 'release_retracted')
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (product, channel, version, published_at) DO UPDATE SET
        stated_at = greatest(p.stated_at, excluded.stated_at),
        retracted_at = greatest(p.retracted_at, excluded.retracted_at);
    WITH named AS (
        SELECT DISTINCT product, channel, (data ->> 'version')::integer AS version FROM event_log
        WHERE position > after_position AND position <= to_position AND type IN ('release_published', 'release_retracted')
    ), standing AS (
        SELECT product, channel, version, min(p.published_at) AS published_at
        FROM named JOIN release_publications p USING (product, channel, version)
        WHERE p.stated_at > p.retracted_at OR p.retracted_at IS NULL
        GROUP BY product, channel, version
    ), deleted AS (
        DELETE FROM releases r USING named n
        WHERE (r.product, r.channel, r.version) = (n.product, n.channel, n.version)
          AND NOT EXISTS (SELECT FROM standing s WHERE (s.product, s.channel, s.version) = (n.product, n.channel, n.version))
        RETURNING 1
    ), written AS (
        INSERT INTO releases AS r (product, channel, version, published_at)
        SELECT product, channel, version, published_at FROM standing
        ON CONFLICT (product, channel, version) DO UPDATE SET published_at = excluded.published_at
        WHERE r.published_at <> excluded.published_at
        RETURNING 1
    ), revised AS (
        INSERT INTO build_revisions AS r (product, channel, build_hour, build_id, revision)
        SELECT DISTINCT ON (product, channel, left(data ->> 'build_id', 10))
               product, channel, left(data ->> 'build_id', 10), data ->> 'build_id', data ->> 'revision'
        FROM event_log
        WHERE position > after_position AND position <= to_position AND type = 'revision_published'
        ORDER BY product, channel, left(data ->> 'build_id', 10), (data ->> 'build_id') COLLATE "C" DESC,
                 (data ->> 'revision') COLLATE "C" DESC
        ON CONFLICT (product, channel, build_hour) DO UPDATE SET
            build_id = excluded.build_id, revision = excluded.revision
        WHERE (excluded.build_id COLLATE "C", excluded.revision COLLATE "C") > (r.build_id, r.revision)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM deleted) + (SELECT count(*) FROM written) + (SELECT count(*) FROM revised)
$$;

-- Marks: the events of a type that an operator compares views before and after of, found without reading the log.
CREATE INDEX marks ON event_log (type, occurred_at)
    WHERE type <> ALL ('{page_viewed,probe_searched,probe_viewed,control_changed,link_followed}');

-- Sessions --------------------------------------------------------------------------------------------------------

-- The tools that people come from, by the host of the referrer or a domain above it.
CREATE TABLE tools (
    host text PRIMARY KEY,
    tool text NOT NULL
);
INSERT INTO tools VALUES
    ('mozilla.cloud.looker.com', 'Looker'), ('looker.com', 'Looker'), ('lookerstudio.google.com', 'Looker Studio'),
    ('datastudio.google.com', 'Looker Studio'), ('sql.telemetry.mozilla.org', 'STMO'),
    ('dictionary.telemetry.mozilla.org', 'Glean Dictionary'), ('glean-dictionary.io', 'Glean Dictionary'),
    ('probes.telemetry.mozilla.org', 'Probe Dictionary'), ('telemetry.mozilla.org', 'Telemetry portal'),
    ('debug-ping-preview.firebaseapp.com', 'Glean debug viewer'), ('bugzilla.mozilla.org', 'Bugzilla'),
    ('searchfox.org', 'Searchfox'), ('phabricator.services.mozilla.com', 'Phabricator'),
    ('treeherder.mozilla.org', 'Treeherder'), ('experimenter.services.mozilla.com', 'Experimenter'),
    ('crash-stats.mozilla.org', 'Crash Stats'), ('profiler.firefox.com', 'Firefox Profiler'),
    ('docs.telemetry.mozilla.org', 'Telemetry documentation'), ('mozilla.github.io', 'Mozilla documentation'),
    ('firefox-source-docs.mozilla.org', 'Firefox source documentation'), ('wiki.mozilla.org', 'Mozilla wiki'),
    ('mozilla-hub.atlassian.net', 'Jira'), ('jira.mozilla.com', 'Jira'), ('github.com', 'GitHub'),
    ('console.cloud.google.com', 'BigQuery'), ('redash.io', 'Redash'), ('grafana.com', 'Grafana'),
    ('app.slack.com', 'Slack'), ('mail.google.com', 'Gmail'), ('docs.google.com', 'Google Docs'),
    ('google.com', 'Google'), ('bing.com', 'Bing'), ('duckduckgo.com', 'DuckDuckGo'), ('ecosia.org', 'Ecosia'),
    ('search.yahoo.com', 'Yahoo'), ('yandex.com', 'Yandex'), ('yandex.ru', 'Yandex'), ('baidu.com', 'Baidu'),
    ('search.brave.com', 'Brave Search'), ('startpage.com', 'Startpage'), ('kagi.com', 'Kagi');

-- The host of a referrer that is a URL or a host, with or without a port; without www. Null when it is neither.
CREATE FUNCTION referrer_host(referrer text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT nullif(regexp_replace(lower(substring(
        referrer FROM '^(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/?#@[:space:]]*@)?'
                      '([^][/?#:@()<>"''%,;_.[:space:]-][^][/?#:@()<>"''%,;[:space:]]*)(?::[0-9]+)?(?:[/?#]|$)')),
        '^www\.|\.$', '', 'g'), '')
$$;

-- A page view's place in its session; event_id decides between page views at the same instant.
CREATE TYPE page_view AS (occurred_at timestamptz, event_id uuid, page text, referrer text);

CREATE TABLE sessions (
    visitor    uuid        NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    events     bigint      NOT NULL,
    bot        boolean     NOT NULL,
    entry      page_view,           -- first page viewed
    exit       page_view,           -- last page viewed
    products   text[]      NOT NULL,  -- of these and the names that follow at most a hundred and one (see kept_names)
    probes     text[]      NOT NULL,
    controls   text[]      NOT NULL,
    tools_left text[]      NOT NULL,  -- tools that a link was followed to
    came_from  text,                  -- the tool that the first page's referrer stands for, else its host
    role       text        NOT NULL GENERATED ALWAYS AS (
        CASE WHEN came_from IS NULL THEN CASE WHEN tools_left = '{}' THEN 'whole' ELSE 'starting_point' END
             WHEN tools_left = '{}' THEN 'endpoint' ELSE 'in_between' END) STORED,  -- in the workflow
    PRIMARY KEY (visitor, started_at)
);
-- Counts those of all products without the rows. What has no bound is not for an index: a row that does not fit fails.
CREATE INDEX sessions_by_start ON sessions (started_at, visitor) INCLUDE (bot, role);

-- How many sessions began in an hour, of all products together (product '') and of each that a session is about.
CREATE TABLE session_counts (
    hour     timestamptz NOT NULL,
    product  text        NOT NULL,
    bot      boolean     NOT NULL,
    role     text        NOT NULL,
    sessions integer     NOT NULL CONSTRAINT somebody_began CHECK (sessions > 0),
    PRIMARY KEY (hour, product, bot, role)
);

CREATE FUNCTION session_gap() RETURNS interval LANGUAGE sql STABLE AS $$
    SELECT make_interval(mins => coalesce(projection_setting('gap_minutes')::integer, 30))
$$;

-- The names of a session, if there is one yet, and those that come to it: nearly always none that is new.
CREATE FUNCTION names_with(known text[], names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN names IS NULL OR names <@ known THEN coalesce(known, '{}') ELSE add_names(coalesce(known, '{}'), names) END
$$;

CREATE AGGREGATE concatenated(text[]) (SFUNC = array_cat, STYPE = text[], PARALLEL = SAFE);
CREATE AGGREGATE concatenated(uuid[]) (SFUNC = array_cat, STYPE = uuid[], PARALLEL = SAFE);

-- The events of the batch and the sessions they could touch are pieces; pieces less than a gap apart are one session.
-- Adding an event can extend or merge sessions, never split one, so nothing but the sessions themselves is read again.
CREATE FUNCTION fold_sessions(after_position bigint, to_position bigint) RETURNS bigint
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

-- How many sessions began in a range of time, by the hour and role: whole hours as they are counted, the rest one by one. `bots` is
-- 'exclude', 'include' or 'only'.
CREATE FUNCTION sessions_begun(
    since timestamptz, until timestamptz, of_product text, bots text,
    OUT hour timestamptz, OUT role text, OUT sessions bigint
) RETURNS SETOF record LANGUAGE sql STABLE AS $$
    WITH hours AS (
        SELECT CASE WHEN first < beyond THEN first ELSE until END AS first, CASE WHEN first < beyond THEN beyond ELSE until END AS beyond
        FROM (
            SELECT date_bin('1 hour', since + '1 hour' - interval '1 microsecond', '2001-01-01T00:00:00Z') AS first,
                   date_bin('1 hour', until, '2001-01-01T00:00:00Z') AS beyond
        ) h
    )
    SELECT c.hour, c.role, c.sessions FROM session_counts c
    WHERE c.hour >= (SELECT first FROM hours) AND c.hour < (SELECT beyond FROM hours)
      AND c.product = coalesce(of_product, '') AND (bots = 'include' OR c.bot = (bots = 'only'))
    UNION ALL
    SELECT date_bin('1 hour', s.started_at, '2001-01-01T00:00:00Z'), s.role, 1
    FROM hours h
    CROSS JOIN LATERAL (VALUES (since, h.first), (h.beyond, until)) e (since, until)
    CROSS JOIN LATERAL (
        SELECT * FROM sessions s
        WHERE s.started_at >= e.since AND s.started_at < e.until
          AND (of_product IS NULL OR of_product = ANY (s.products)) AND (bots = 'include' OR s.bot = (bots = 'only'))
        OFFSET 0  -- found by their start
    ) s
$$;

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

-- Journeys --------------------------------------------------------------------------------------------------------

-- What a session is made of, in the order in which a visitor did it; event_id decides at the same instant. Which of them
-- are one session, the sessions say.
CREATE TABLE journey_events (
    visitor     uuid        NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_id    uuid        NOT NULL,
    kind        text,  -- of a step: page, probe or tool (left for)
    name        text,  -- of that page, probe or tool
    product     text,
    PRIMARY KEY (visitor, occurred_at, event_id),
    CONSTRAINT step_is_whole CHECK ((kind IS NULL) = (name IS NULL))
);

CREATE FUNCTION fold_journeys(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
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

-- Sampling --------------------------------------------------------------------------------------------------------

-- Where there are too many visitors to read each, those with low sample keys are read: pseudonyms are random, so they are a
-- fair sample, the same whenever asked. A sample key is the first 32 bits of the pseudonym.
CREATE FUNCTION sample_key(visitor uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(visitor::text, 8))::bit(32)::bigint
$$;

-- The least upper bound of the pseudonyms with a sample key below this one (at most 2^32).
CREATE FUNCTION sample_bound(sample_key bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(least(sample_key, 1::bigint << 32), 1) - 1), 8, '0') || '-ffff-ffff-ffff-ffffffffffff')::uuid
$$;

-- The sample key below which about `wanted` of `total` visitors are.
CREATE FUNCTION sample_key_for(wanted bigint, total bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((1::bigint << 32) * least(1.0, wanted / greatest(total, 1)::numeric))::bigint
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

-- Time series -----------------------------------------------------------------------------------------------------

-- Views by the hour of a probe, and of all probes of the product together (probe '').
CREATE TABLE probe_hours (
    product  text        NOT NULL,
    probe    text        NOT NULL,
    hour     timestamptz NOT NULL,
    channel  text        NOT NULL,  -- '' where the event named none
    bot      boolean     NOT NULL,
    found    integer     NOT NULL,
    missing  integer     NOT NULL,
    visitors uuid[]      NOT NULL,  -- distinct, sorted: the first 1,000, which stand for those beyond (see sample_key)
    held     integer     NOT NULL GENERATED ALWAYS AS (cardinality(visitors)) STORED,  -- told without reading them
    complete_below bigint GENERATED ALWAYS AS (sample_key(visitors[1000])) STORED,    -- null: no visitor is missing
    PRIMARY KEY (product, probe, hour, channel, bot)
);
ALTER TABLE probe_hours ALTER COLUMN visitors SET STORAGE EXTERNAL;  -- pseudonyms are random: to try to compress them is lost time

-- Visitors are put in their places among those of the row, so that what a row costs depends little on how many it has.
CREATE FUNCTION fold_timeseries(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
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

-- Build costs -----------------------------------------------------------------------------------------------------

-- What the last build of a probe, channel and day read in the warehouse, and how long its attempt took. Days are kept, so that the
-- costs that were known at any past night are those that its hot list was made with.
CREATE TABLE build_costs (
    product  text        NOT NULL,
    channel  text        NOT NULL,
    probe    text        NOT NULL,
    day      date        NOT NULL,
    ended_at timestamptz NOT NULL,
    bytes    bigint      NOT NULL,
    seconds  float8,               -- null: the event is of a time when events did not say
    PRIMARY KEY (product, channel, probe, day),
    CONSTRAINT costs_are_not_negative CHECK (bytes >= 0 AND seconds >= 0)
);

-- Of two that ended at the same instant the more expensive one counts, so that the order of arrival does not matter.
CREATE FUNCTION fold_build_costs(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH written AS (
        INSERT INTO build_costs AS c (product, channel, probe, day, ended_at, bytes, seconds)
        SELECT DISTINCT ON (e.product, e.channel, e.probe, e.day) e.* FROM (
            SELECT product, channel, probe, utc_day(occurred_at) AS day, occurred_at AS ended_at, (data ->> 'bytes')::bigint AS bytes,
                   (data ->> 'seconds')::float8 AS seconds
            FROM event_log
            WHERE position > after_position AND position <= to_position AND type IN ('build_succeeded', 'build_found_no_data')
              AND data ->> 'bytes' IS NOT NULL
        ) e
        ORDER BY e.product, e.channel, e.probe, e.day, e.ended_at DESC, e.bytes DESC, e.seconds DESC NULLS LAST
        ON CONFLICT (product, channel, probe, day) DO UPDATE SET
            ended_at = excluded.ended_at, bytes = excluded.bytes, seconds = excluded.seconds
        WHERE (excluded.ended_at, excluded.bytes, coalesce(excluded.seconds, -1)) > (c.ended_at, c.bytes, coalesce(c.seconds, -1))
        RETURNING 1
    )
    SELECT count(*) FROM written
$$;

---------------------------------------------------------------------------------------------------------------------
-- Builds: asynchronous request-reply
--
--          +--------- f retry, g lease lost, i handed back ---------+
--          v                                                        |
--   a --> queued ---------------- b claim ----------------------> running --- c progress, heartbeat --+
--          | ^                                                    | | | | ^                           |
--          | +------ k retry ------ failed <--- f, g, h fail -----+ | | | +---------------------------+
--          |                                                        | | |
--          +-- j cancel ---------> cancelled <--------- j cancel ---+ | +--- e no data ---> no_data
--                                                                     +----- d succeed ---> succeeded
--
-- A claim raises `attempt`; every later call of that worker names it and raises lease_lost (UB001), or build_cancelled
-- (UB003), when the build has moved on, so a stale worker changes nothing. Each transition notifies `build_changed`.

-- When, in UTC, the ETL of a product is through every day: what was built since then is fresh. Midnight, unless said here.
CREATE TABLE etl_times (
    product    text PRIMARY KEY,
    through_at time NOT NULL
);

-- Nights: lists of probes of a channel that are built in as few warehouse jobs as possible, probes that one statement can read in
-- one. A builder plans it: which probes go into which job, and which do not fit into its bytes. One is under way a channel.
CREATE TABLE nights (
    night_id       uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    product        text        NOT NULL,
    channel        text        NOT NULL,
    source         text        NOT NULL,
    state          text        NOT NULL DEFAULT 'planning',
    run_date       date        NOT NULL,  -- all jobs read the pings up to this day
    latest_version integer,               -- the newest that was released, when it was asked for
    most_bytes     bigint,                -- that it may read; null: what is left of the day
    attempt        integer     NOT NULL DEFAULT 0,
    max_attempts   integer     NOT NULL DEFAULT 5,
    worker         text,                  -- who plans it
    lease_until    timestamptz,
    not_before     timestamptz NOT NULL,
    error          jsonb,                 -- {code, message}: why it was not planned, or who cancelled it
    requested_at   timestamptz NOT NULL,
    finished_at    timestamptz,
    CONSTRAINT state_is_known CHECK (state IN ('planning', 'running', 'over')),
    CONSTRAINT over_has_an_end CHECK ((state = 'over') = (finished_at IS NOT NULL)),
    CONSTRAINT bytes_are_not_negative CHECK (most_bytes >= 0),
    CONSTRAINT attempts_are_bounded CHECK (attempt BETWEEN 0 AND max_attempts),
    CONSTRAINT worker_plans CHECK (worker IS NULL OR state = 'planning')
);
CREATE UNIQUE INDEX one_night_under_way ON nights (product, channel) WHERE state <> 'over';
CREATE INDEX nights_by_request ON nights (requested_at DESC, night_id);

-- The warehouse jobs of nights. `builds` never changes once the job was begun, for its statements, and so the names that an attempt
-- adopts them by, depend on them: a build that is cancelled, or that somebody else has built meanwhile, is read and left out.
CREATE TABLE shared_jobs (
    job_id         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    night_id       uuid        NOT NULL REFERENCES nights,
    split_from     uuid        REFERENCES shared_jobs,  -- the job that could not be done, half of which this is
    builds         uuid[]      NOT NULL,
    state          text        NOT NULL DEFAULT 'queued',
    attempt        integer     NOT NULL DEFAULT 0,
    max_attempts   integer     NOT NULL DEFAULT 5,
    worker         text,
    lease_until    timestamptz,
    not_before     timestamptz NOT NULL,
    stage          text,
    percent        smallint,
    expected_bytes bigint,                -- by dry run
    bytes          bigint,                -- read by the warehouse
    error          jsonb,
    queued_at      timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz,
    stop_jobs_at   timestamptz,
    CONSTRAINT state_is_known CHECK (state IN ('queued', 'running', 'done', 'split', 'failed', 'cancelled')),
    CONSTRAINT running_has_a_lease CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT over_has_an_end CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT attempts_are_bounded CHECK (attempt BETWEEN 0 AND max_attempts),
    CONSTRAINT percent_is_a_share CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT it_is_shared_by_some CHECK (cardinality(builds) BETWEEN 1 AND 1000)
) WITH (fillfactor = 50);
CREATE INDEX shared_jobs_of_a_night ON shared_jobs (night_id);
CREATE INDEX shared_jobs_to_claim ON shared_jobs (not_before) WHERE state = 'queued';
CREATE INDEX shared_jobs_leased ON shared_jobs (lease_until) WHERE state = 'running';
CREATE INDEX shared_jobs_to_stop ON shared_jobs (stop_jobs_at) WHERE stop_jobs_at IS NOT NULL;

CREATE TABLE builds (
    build_id     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    product      text        NOT NULL,
    channel      text        NOT NULL,
    probe        text        NOT NULL,
    metric_type  text        NOT NULL REFERENCES metric_types,
    pings        text[]      NOT NULL,
    definition   jsonb,                -- of its buckets or labels, as the catalogue had it
    state        text        NOT NULL DEFAULT 'queued',
    attempt      integer     NOT NULL DEFAULT 0,
    max_attempts integer     NOT NULL DEFAULT 5,
    prefetched   boolean     NOT NULL DEFAULT false,  -- nobody waits for it: it comes after those that somebody waits for
    worker       text,                 -- who runs it
    lease_until  timestamptz,          -- when it may be taken from the worker
    not_before   timestamptz NOT NULL, -- when it may be claimed (backoff of a retry)
    stage        text,
    percent      smallint,
    bytes        bigint,               -- read by the warehouse
    rows         integer,
    error        jsonb,                -- {code, message} of the last failure
    requested_at timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    stop_jobs_at timestamptz,          -- cancelled after it was begun: when any builder is to stop its warehouse's jobs
    log_position bigint      NOT NULL, -- of its last event
    traceparent  text,                 -- of who asked for it first, as W3C has it, where that was traced
    shared_job   uuid REFERENCES shared_jobs,  -- the job that reads it with others, unless somebody waits for it before that begins
    CONSTRAINT state_is_known CHECK (state IN ('queued', 'running', 'succeeded', 'no_data', 'failed', 'cancelled')),
    CONSTRAINT running_has_a_lease CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT over_has_an_end CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT failed_has_an_error CHECK (state <> 'failed' OR error IS NOT NULL),
    CONSTRAINT succeeded_has_rows CHECK ((state = 'succeeded') = (rows IS NOT NULL AND rows > 0)),
    CONSTRAINT attempts_are_bounded CHECK (attempt BETWEEN 0 AND max_attempts),
    CONSTRAINT percent_is_a_share CHECK (percent BETWEEN 0 AND 100)
) WITH (fillfactor = 50);  -- room beside each row for the next version of it
-- Coalescing: at most one build of a probe is under way.
CREATE UNIQUE INDEX one_build_under_way ON builds (product, channel, probe) WHERE state IN ('queued', 'running');
CREATE INDEX builds_to_claim ON builds (prefetched, not_before) WHERE state = 'queued';
CREATE INDEX builds_by_request ON builds (requested_at DESC, build_id);
CREATE INDEX builds_by_state ON builds (state, requested_at DESC, build_id) WHERE state NOT IN ('queued', 'running');
CREATE INDEX builds_by_end ON builds (finished_at DESC) WHERE finished_at IS NOT NULL;
CREATE INDEX builds_leased ON builds (lease_until) WHERE state = 'running';
CREATE INDEX builds_with_orphaned_jobs ON builds (stop_jobs_at) WHERE stop_jobs_at IS NOT NULL;
CREATE INDEX builds_of_a_probe ON builds (product, channel, probe, requested_at DESC);
CREATE INDEX builds_of_a_shared_job ON builds (shared_job) WHERE shared_job IS NOT NULL;

-- The probes of a night. outcome: 'listed' (to be planned or built), 'left' (it did not fit into the night's bytes), or as
-- request_build answers: 'pending', 'fresh', 'unknown', 'unbuildable', 'excluded'.
CREATE TABLE night_probes (
    night_id uuid    NOT NULL REFERENCES nights ON DELETE CASCADE,
    place    integer NOT NULL,  -- in the list
    probe    text    NOT NULL,
    requests float8,            -- that are expected a day; null: nobody said
    outcome  text    NOT NULL,
    bytes    bigint,            -- that it adds to its job, where dry runs were made to find out
    build_id uuid    REFERENCES builds,
    PRIMARY KEY (night_id, probe),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('listed', 'left', 'pending', 'fresh', 'unknown', 'unbuildable', 'excluded')),
    CONSTRAINT built_was_listed CHECK (build_id IS NULL OR outcome = 'listed')
);

-- Requests that named themselves (Idempotency-Key), kept for a day.
CREATE TABLE build_keys (
    source   text        NOT NULL,
    key      text        NOT NULL,
    asked    jsonb       NOT NULL,
    build_id uuid        NOT NULL REFERENCES builds,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (source, key)
);
CREATE INDEX build_keys_by_age ON build_keys (asked_at);

-- How many builds each visitor's misses started on a day: those of today alone are kept. The visitor is a hash that is made anew each
-- day, which leads to nobody; requests without one share theirs.
CREATE TABLE miss_allowances (
    day     date    NOT NULL,
    visitor uuid    NOT NULL,
    builds  integer NOT NULL,
    PRIMARY KEY (day, visitor)
);

-- Builders, and when each last showed life: what builds wait for.
CREATE TABLE builders (
    name    text        PRIMARY KEY,
    seen_at timestamptz NOT NULL,
    CONSTRAINT name_is_short CHECK (length(name) <= 200)
) WITH (fillfactor = 50);

-- What was read on each UTC day. Where a builder accounts for its jobs (account_job), each of them is in it once, with what it read, or is
-- to read; of others, what their attempts read, or were about to read when they failed.
CREATE TABLE warehouse_days (
    day   date   PRIMARY KEY,
    bytes bigint NOT NULL
);

-- The warehouse jobs of the last month, each with the day that it is counted on, which is that of the attempt that was to begin it: those
-- after it adopt it, and pay for nothing.
CREATE TABLE warehouse_jobs (
    job   text   PRIMARY KEY,  -- its id there
    work  uuid   NOT NULL,     -- the build or the shared job that it is of
    day   date   NOT NULL,
    bytes bigint NOT NULL,     -- to be read by dry run; read, once it is over
    CONSTRAINT bytes_are_not_negative CHECK (bytes >= 0)
);
CREATE INDEX warehouse_jobs_of_work ON warehouse_jobs (work);
CREATE INDEX warehouse_jobs_by_day ON warehouse_jobs (day);

-- Of each combination the newest build's row; in the transaction that stores them, the row before, too (merge_rows). Rows of
-- versions that builds cover no more stay: what an operator does not delete is kept.
CREATE TABLE probe_rows (
    product              text        NOT NULL,
    channel              text        NOT NULL,
    probe                text        NOT NULL,
    built_by             uuid        NOT NULL REFERENCES builds,
    version              integer     NOT NULL,
    ping_type            text        NOT NULL,
    os                   text        NOT NULL,
    build_id             text        NOT NULL,  -- the application's build, YYYYMMDDHH or '*'
    metric_type          text        NOT NULL,
    metric_key           text        NOT NULL,
    client_agg_type      text        NOT NULL,
    total_users          bigint      NOT NULL,
    total_sample         bigint      NOT NULL,
    histogram            json        NOT NULL,  -- json, not jsonb: keeps the order of the keys
    percentiles          json        NOT NULL,
    non_norm_histogram   json        NOT NULL,
    non_norm_percentiles json        NOT NULL,
    build_date           timestamptz
);
CREATE UNIQUE INDEX one_row_a_combination ON probe_rows
    (product, channel, probe, version, ping_type, os, build_id, metric_key, client_agg_type, built_by);

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

-- Names of probes that are neither built nor listed, as patterns: `*` stands for any text, a dot is an underscore. The product ''
-- is every product. Views of them are recorded all the same. Operators add patterns, and lift them.
CREATE TABLE hidden_probes (
    pattern      text    NOT NULL,
    product      text    NOT NULL,
    reason       text    NOT NULL,
    source       text    NOT NULL,
    hidden       boolean NOT NULL DEFAULT true,
    log_position bigint  NOT NULL DEFAULT 0,  -- of the event that said so; what GLAM hides has none
    like_pattern text    NOT NULL GENERATED ALWAYS AS (replace(replace(pattern, '_', '\_'), '*', '%')) STORED,
    PRIMARY KEY (pattern, product),
    CONSTRAINT pattern_names_something CHECK (pattern ~ '^[a-z0-9_*]{1,255}$' AND pattern ~ '[a-z0-9_]')
);
INSERT INTO hidden_probes (pattern, product, reason, source) VALUES
    ('*search_counts*', '', 'GLAM hides it', 'GLAM'),
    ('*browser_search*', '', 'GLAM hides it', 'GLAM'),
    ('*event_counts*', '', 'GLAM hides it', 'GLAM'),
    ('*browser_engagement_navigation*', '', 'GLAM hides it', 'GLAM'),
    ('*manager_message_size*', '', 'GLAM hides it', 'GLAM'),
    ('*dropped_frames_proportion*', '', 'GLAM hides it', 'GLAM'),
    ('use_counter*', '', 'use counters have an ETL of their own', 'GLAM'),
    ('usecounter*', '', 'use counters have an ETL of their own', 'GLAM'),
    ('sqlite_store_open', '', 'too large for any ETL', 'GLAM'),
    ('sqlite_store_query', '', 'too large for any ETL', 'GLAM'),
    ('browser_search_ad_clicks', 'fog', 'GLAM hides it', 'GLAM'),
    ('browser_search_in_content', 'fog', 'GLAM hides it', 'GLAM'),
    ('browser_search_with_ads', 'fog', 'GLAM hides it', 'GLAM'),
    ('fx_suggest_block_id', 'fog', 'GLAM hides it', 'GLAM'),
    ('metrics_search_count', 'fog', 'GLAM hides it', 'GLAM'),
    ('nimbus_health_fetch_experiments_time', 'fog', 'GLAM hides it', 'GLAM'),
    ('shopping_product_page_visits', 'fog', 'GLAM hides it', 'GLAM'),
    ('shopping_settings_component_opted_out', 'fog', 'GLAM hides it', 'GLAM'),
    ('shopping_settings_disabled_ads', 'fog', 'GLAM hides it', 'GLAM'),
    ('shopping_settings_nimbus_disabled_shopping', 'fog', 'GLAM hides it', 'GLAM'),
    ('shopping_settings_user_has_onboarded', 'fog', 'GLAM hides it', 'GLAM'),
    ('top_sites_contile_tile_id', 'fog', 'GLAM hides it', 'GLAM'),
    ('characteristics_color_depth', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_color_gamut', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_color_scheme', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_inverted_colors', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_max_touch_points', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_missing_fonts', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_prefers_contrast', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_prefers_reduced_motion', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_prefers_reduced_transparency', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_prefs_media_eme_enabled', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_prefs_zoom_text_only', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_processor_count', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_screen_height', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_screen_width', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_submission_schema', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_target_frame_rate', 'fenix', 'GLAM hides it', 'GLAM'),
    ('characteristics_video_dynamic_range', 'fenix', 'GLAM hides it', 'GLAM'),
    ('pocket_shim', 'fenix', 'GLAM hides it', 'GLAM'),
    ('shopping_product_page_visits', 'fenix', 'GLAM hides it', 'GLAM');

-- The patterns that hide a probe.
CREATE FUNCTION hidden_by(of_product text, of_probe text) RETURNS TABLE (pattern text, reason text) LANGUAGE sql STABLE AS $$
    SELECT h.pattern, h.reason FROM hidden_probes h
    WHERE h.hidden AND h.product IN ('', of_product) AND lower(replace(of_probe, '.', '_')) LIKE h.like_pattern
$$;

-- Programs of schema 2 ask by this name, without the product.
CREATE FUNCTION is_excluded(probe text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM hidden_by('', probe))
$$;

-- Since when what was built of a product is fresh: the last time that its ETL was through.
CREATE FUNCTION fresh_since(of_product text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN today.through <= current_instant() THEN today.through ELSE today.through - interval '1 day' END
    FROM (
        SELECT (utc_day(current_instant()) + coalesce((SELECT t.through_at FROM etl_times t WHERE t.product = of_product), '00:00'))
            AT TIME ZONE 'UTC' AS through
    ) today
$$;

-- Why a probe is not built, or null: as request_build answers it. What the catalogue says of it, nulls where it has none: a parameter
-- of the row's type would keep the table from being swapped for a rebuilt one.
CREATE FUNCTION building_refusal(
    for_product text, for_probe text, of_metric_type text, built_at timestamptz, prefetch boolean) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN EXISTS (SELECT FROM hidden_by(for_product, for_probe)) OR EXISTS (
            SELECT FROM hotlist_rules r WHERE r.product = for_product AND r.probe = for_probe AND r.rule = 'excluded'
        ) THEN 'excluded'  -- whether the catalogue has it or not
        WHEN of_metric_type IS NULL THEN 'unknown'
        WHEN NOT coalesce((SELECT m.buildable FROM metric_types m WHERE m.metric_type = of_metric_type), false)
        THEN 'unbuildable'
        WHEN prefetch AND built_at >= fresh_since(for_product) THEN 'fresh'
    END;
END $$;

-- The build of a probe that is under way, else the one that is fresh; a row of nulls where there is none. Not STABLE: who has found
-- none, and then could not create one either, has to see the other's.
CREATE FUNCTION build_to_join(for_product text, for_channel text, for_probe text) RETURNS builds LANGUAGE sql AS $$
    SELECT * FROM builds b
    WHERE b.product = for_product AND b.channel = for_channel AND b.probe = for_probe
      AND (b.state IN ('queued', 'running')
           OR b.state IN ('succeeded', 'no_data') AND b.finished_at >= fresh_since(for_product))
    ORDER BY b.finished_at DESC NULLS FIRST LIMIT 1
$$;

-- a: asks for a probe. outcome: 'created'; 'pending' (one is under way); 'fresh' (built since the last ETL, with or
-- without data); 'unknown' (not in the catalogue); 'unbuildable' (of a type that is not aggregated); 'excluded' (by name).
-- With `prefetch` nobody waits for it yet; who asks without for one that is queued so moves it forward.
CREATE FUNCTION request_build(
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
    outcome := building_refusal(for_product, for_probe, entry.metric_type, entry.built_at, prefetch);
    IF outcome IS NOT NULL THEN
        RETURN;
    END IF;
    LOOP
        found_build := build_to_join(for_product, for_channel, for_probe);
        IF found_build.build_id IS NOT NULL THEN
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

-- a, for a request with a key of its own: asked again it is answered with the build of the first time ('repeated'),
-- whatever became of it; under another request's key it is a 'mismatch'. Keys are kept for a day.
CREATE FUNCTION request_build_once(
    with_key text, for_product text, for_channel text, for_probe text, by_source text DEFAULT session_user,
    in_trace text DEFAULT NULL,
    OUT outcome text, OUT build_id uuid, OUT metric_type text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    asking jsonb := jsonb_build_object('product', for_product, 'channel', for_channel, 'probe', for_probe);
    known build_keys;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(by_source || ' ' || with_key, 1));
    DELETE FROM build_keys k WHERE k.asked_at < current_instant() - interval '1 day';
    SELECT * INTO known FROM build_keys k WHERE k.source = by_source AND k.key = with_key;
    IF FOUND THEN
        outcome := CASE WHEN known.asked = asking THEN 'repeated' ELSE 'mismatch' END;
        build_id := CASE WHEN known.asked = asking THEN known.build_id END;
        RETURN;
    END IF;
    SELECT r.* INTO outcome, build_id, metric_type
    FROM request_build(for_product, for_channel, for_probe, by_source, in_trace => in_trace) r;
    IF build_id IS NOT NULL THEN
        INSERT INTO build_keys (source, key, asked, build_id, asked_at)
        VALUES (by_source, with_key, asking, request_build_once.build_id, current_instant());
    END IF;
END $$;

-- What a visitor is counted by for a day, and not longer.
CREATE FUNCTION daily_hash(day date, visitor uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT md5(format('%s %s', day, visitor))::uuid
$$;

-- a, for a request of data that found nothing: joins the build that is under way, else creates one if the visitor's misses have
-- started fewer than `most_builds` today and fewer than `most_bytes` were read ('limited'). One that failed or was cancelled since
-- the last ETL is not begun again ('over').
CREATE FUNCTION request_missed_build(
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

-- b: ends builds without rows (e) and hands out others in one transaction, for what ends makes room for what waits. Those that these
-- attempts do not hold any more stay as they are. Hands up to so many builds to the worker, no more than it has ended if it names any: those waited for longest,
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

-- The same, for builders of version 4.
CREATE FUNCTION claim_build(by_worker text, lease interval, most integer DEFAULT 1) RETURNS SETOF builds
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM exchange_builds('{}', '{}', '{}', by_worker, lease, most)
$$;

-- What an attempt says that it read beyond the jobs of its build or shared job that are accounted for.
CREATE FUNCTION uncounted_bytes(of_work uuid, read bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN greatest(0, read - coalesce((SELECT sum(j.bytes) FROM warehouse_jobs j WHERE j.work = of_work), 0));
END $$;

-- What attempts may still read today, of `most_bytes` a day; those under way are counted with what they have said beyond the jobs that
-- are accounted for.
CREATE FUNCTION bytes_left_today(most_bytes bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT greatest(0, most_bytes - coalesce((SELECT d.bytes FROM warehouse_days d WHERE d.day = utc_day(current_instant())), 0)
                       - coalesce((SELECT sum(uncounted_bytes(b.build_id, b.bytes)) FROM builds b WHERE b.state = 'running'), 0)
                       - coalesce((SELECT sum(uncounted_bytes(j.job_id, j.bytes)) FROM shared_jobs j WHERE j.state = 'running'), 0)
                   )::bigint
$$;

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

-- After record_transition: who counts holds the log's lock already, so that nobody waits for one with the other.
CREATE FUNCTION count_bytes(of_work uuid, read bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF read > 0 THEN
        INSERT INTO warehouse_days AS d (day, bytes)
        SELECT utc_day(current_instant()), u FROM uncounted_bytes(of_work, read) u WHERE u > 0
        ON CONFLICT (day) DO UPDATE SET bytes = d.bytes + excluded.bytes;
    END IF;
END $$;

-- c: keeps the lease and, when given, records how far the build is.
CREATE FUNCTION heartbeat_build(
    of_build uuid, of_attempt integer, lease interval,
    new_stage text DEFAULT NULL, new_percent integer DEFAULT NULL, new_bytes bigint DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
BEGIN
    UPDATE builds b SET
        lease_until = current_instant() + lease, stage = coalesce(new_stage, b.stage),
        percent = coalesce(new_percent, b.percent), bytes = coalesce(new_bytes, b.bytes),
        log_position = CASE WHEN new_stage IS NULL THEN b.log_position ELSE record_transition(
            held, 'build_progressed', held.worker, jsonb_strip_nulls(jsonb_build_object(
                'attempt', of_attempt, 'stage', new_stage, 'percent', new_percent, 'bytes', new_bytes))) END
    WHERE b.build_id = of_build;
END $$;

-- Merges the rows that a build inserted in this transaction with those of earlier builds, as GLAM's MERGE does: they take the place
-- of rows of the same combination, and no other row goes. Answers how many the build inserted. Joined by hashes whatever the planner
-- expects of rows that were just inserted: by a nested loop a large probe would be compared row by row.
CREATE FUNCTION merge_rows(of_build builds) RETURNS integer
LANGUAGE plpgsql SET enable_nestloop = off SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM probe_rows r USING probe_rows n
    WHERE r.product = of_build.product AND r.channel = of_build.channel AND r.probe = of_build.probe
      AND r.built_by <> of_build.build_id
      AND n.product = of_build.product AND n.channel = of_build.channel AND n.probe = of_build.probe
      AND n.built_by = of_build.build_id
      AND (r.version, r.ping_type, r.os, r.build_id, r.metric_type, r.metric_key, r.client_agg_type)
        = (n.version, n.ping_type, n.os, n.build_id, n.metric_type, n.metric_key, n.client_agg_type);
    RETURN (SELECT count(*) FROM probe_rows r
            WHERE r.product = of_build.product AND r.channel = of_build.channel AND r.probe = of_build.probe
              AND r.built_by = of_build.build_id);
END $$;

-- How long the attempt that holds a build has taken: what came before it, in the queue or in vain, is not in it.
-- The first attempt began when the build did; those after it have an event that says so.
CREATE FUNCTION attempt_seconds(held builds) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
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

-- d: the rows that the worker inserted in this transaction are merged with those of earlier builds.
-- e: without any, the probe was built and too few clients sent it. Answers how many rows the build has.
CREATE FUNCTION complete_build(of_build uuid, of_attempt integer, bytes_read bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    stored integer := succeed_build(held, bytes_read, jsonb_build_object('seconds', attempt_seconds(held)));
BEGIN
    PERFORM count_bytes(of_build, bytes_read);
    RETURN stored;
END $$;

CREATE FUNCTION succeed_build(held builds, bytes_read bigint, details jsonb) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    stored integer := merge_rows(held);
BEGIN
    PERFORM end_build(
        held, CASE WHEN stored > 0 THEN 'succeeded' ELSE 'no_data' END, NULL, bytes_read, stored, record_transition(
            held, CASE WHEN stored > 0 THEN 'build_succeeded' ELSE 'build_found_no_data' END, held.worker,
            details || jsonb_build_object('attempt', held.attempt, 'bytes', bytes_read, 'rows', stored)));
    RETURN stored;
END $$;

-- e for several builds, for builders of version 4. Answers those that were still held by these attempts.
CREATE FUNCTION complete_builds(of_builds uuid[], of_attempts integer[], bytes_read bigint[]) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT e.build_id FROM exchange_builds(
        of_builds, of_attempts, bytes_read,
        (SELECT max(b.worker) FROM builds b
         WHERE b.build_id = ANY (of_builds) AND b.attempt = of_attempts[array_position(of_builds, b.build_id)]),
        NULL, 0) e
$$;

-- f: tries again after `retry_in`, while attempts are left. h: with no `retry_in`, fails for good. Answers the state.
CREATE FUNCTION fail_build(
    of_build uuid, of_attempt integer, error_code text, error_message text, retry_in interval DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
BEGIN
    RETURN give_up_attempt(held, jsonb_build_object('code', error_code, 'message', error_message), retry_in);
END $$;

-- g: takes the builds whose worker has not been heard of from it. Answers how many.
CREATE FUNCTION expire_leases() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    lost builds;
    number integer := 0;
BEGIN
    FOR lost IN SELECT * FROM builds b WHERE b.state = 'running' AND b.lease_until < current_instant()
                ORDER BY b.build_id FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM give_up_attempt(
            lost, jsonb_build_object('code', 'lease_lost', 'message', 'its builder was not heard of any more'),
            interval '0');
        PERFORM pg_notify('build_requested', lost.build_id::text);
        number := number + 1;
    END LOOP;
    RETURN number;
END $$;

-- i: puts a build back that its worker will not finish, for another one to claim at once: costs no attempt.
CREATE FUNCTION hand_back_build(of_build uuid, of_attempt integer) RETURNS void
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
CREATE FUNCTION cancel_build(of_build uuid, by_source text DEFAULT session_user) RETURNS text
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

-- Claims the orphaned jobs of cancelled builds, which nobody has proved stopped: the caller stops them before `within` has
-- passed, else another one is asked to. A job runs for six hours at most (BigQuery's limit): what was cancelled before has
-- none.
CREATE FUNCTION claim_orphaned_jobs(within interval) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH of_jobs AS (
        UPDATE shared_jobs j SET stop_jobs_at = current_instant() + within
        WHERE j.job_id = ANY (ARRAY(
            SELECT q.job_id FROM shared_jobs q
            WHERE q.stop_jobs_at <= current_instant() AND q.finished_at > current_instant() - interval '6 hours'
            ORDER BY q.stop_jobs_at LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED))
        RETURNING j.job_id
    ), of_builds AS (
        UPDATE builds b SET stop_jobs_at = current_instant() + within
        WHERE b.build_id = ANY (ARRAY(
            SELECT q.build_id FROM builds q
            WHERE q.stop_jobs_at <= current_instant() AND q.finished_at > current_instant() - interval '6 hours'
            ORDER BY q.stop_jobs_at LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED))
        RETURNING b.build_id
    )
    SELECT job_id FROM of_jobs UNION ALL SELECT build_id FROM of_builds
$$;

-- Marks the jobs of a cancelled build, or a cancelled shared job, as stopped.
CREATE FUNCTION mark_jobs_stopped(of_build uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE builds SET stop_jobs_at = NULL WHERE build_id = of_build;
    UPDATE shared_jobs SET stop_jobs_at = NULL WHERE job_id = of_build
$$;

-- Notes that a builder is alive, and forgets those that have not been for a day.
CREATE FUNCTION note_builder(builder text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM builders b WHERE b.name = ANY (ARRAY(
        SELECT o.name FROM builders o WHERE o.seen_at < current_instant() - interval '1 day' FOR UPDATE SKIP LOCKED));
    INSERT INTO builders VALUES (left(builder, 200), current_instant())
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at;
$$;

-- k: tries a failed build again, with as many attempts as before. outcome: 'queued'; 'under_way' (another build of the
-- probe is); 'not_failed'; 'unknown'.
CREATE FUNCTION retry_build(of_build uuid, by_source text DEFAULT session_user) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_build builds;
BEGIN
    SELECT * INTO found_build FROM builds b WHERE b.build_id = of_build FOR NO KEY UPDATE;
    IF NOT FOUND OR found_build.state <> 'failed' THEN
        RETURN CASE WHEN found_build.build_id IS NULL THEN 'unknown' ELSE 'not_failed' END;
    END IF;
    UPDATE builds b SET
        state = 'queued', max_attempts = b.attempt + 5, not_before = current_instant(), finished_at = NULL, bytes = NULL,
        shared_job = NULL
    WHERE b.build_id = of_build;  -- before the event, for which there is no occasion where this fails
    UPDATE builds b SET log_position = record_transition(
        found_build, 'build_requested', by_source, jsonb_build_object('attempt', found_build.attempt))
    WHERE b.build_id = of_build;
    PERFORM pg_notify('build_requested', of_build::text);
    RETURN 'queued';
EXCEPTION WHEN unique_violation THEN
    RETURN 'under_way';
END $$;

-- Locks a running build for the worker that holds this attempt.
CREATE FUNCTION hold_build(of_build uuid, of_attempt integer) RETURNS builds LANGUAGE plpgsql AS $$
DECLARE
    held builds;
BEGIN
    -- Not FOR UPDATE: two attempts that have both inserted rows would wait for each other's key.
    SELECT * INTO held FROM builds b
    WHERE b.build_id = of_build AND b.attempt = of_attempt AND b.state = 'running' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % of build % is no longer running', of_attempt, of_build USING ERRCODE = (
            SELECT CASE WHEN b.state = 'cancelled' AND b.attempt = of_attempt THEN 'UB003' ELSE 'UB001' END
            FROM builds b WHERE b.build_id = of_build
            UNION ALL SELECT 'UB001' LIMIT 1);
    END IF;
    RETURN held;
END $$;

CREATE FUNCTION give_up_attempt(held builds, why jsonb, retry_in interval) RETURNS text LANGUAGE plpgsql AS $$
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

-- For who has recorded it, and holds the build.
CREATE FUNCTION end_build(
    held builds, new_state text, why jsonb, bytes_read bigint, stored integer, at_position bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE builds SET
        state = new_state, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why,
        bytes = bytes_read, rows = nullif(stored, 0), finished_at = current_instant(), log_position = at_position
    WHERE build_id = held.build_id;
END $$;

-- The event of a transition of a build that is held, and who is told of it. Answers the event's position, which is to become
-- the build's: in the same UPDATE as the transition, because a second one writes the row and its entries in indexes again.
CREATE FUNCTION record_transition(of_build builds, event_type text, by_source text, details jsonb) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('build_changed', of_build.build_id::text), pg_notify('events_appended', '');
    RETURN append_own_event(
        event_type, of_build.product, of_build.channel, of_build.probe, by_source,
        details || jsonb_build_object('build_id', of_build.build_id));
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

-- What there is of a build to follow, found without reading the log.
CREATE INDEX build_events ON event_log ((data ->> 'build_id'), position) WHERE type LIKE 'build\_%';

-- The queue in numbers: how many builds are in each state, of those that are over only the last day's; how long the longest
-- waiting one waits, attempts so far. Whatever the history, what is read is what is under way and that day.
CREATE VIEW build_queue AS
    SELECT b.state, b.prefetched, count(*) AS builds, sum(b.attempt) AS attempts, sum(b.bytes) AS bytes,
           coalesce(extract(epoch FROM current_instant() - min(b.not_before) FILTER (WHERE b.state = 'queued'
               AND b.not_before <= current_instant()))::float8, 0) AS oldest_seconds
    FROM (
        SELECT u.state, u.prefetched, u.attempt, u.bytes, u.not_before FROM builds u WHERE u.state IN ('queued', 'running')
        UNION ALL
        SELECT o.state, o.prefetched, o.attempt, o.bytes, o.not_before FROM builds o
        WHERE o.finished_at > (SELECT current_instant() - interval '1 day')
    ) b
    GROUP BY b.state, b.prefetched;

-- GLAM's ranges of time end with an instant, which counts by days leave out.
CREATE INDEX views_at_midnight ON event_log (occurred_at)
    WHERE type = 'probe_viewed' AND (occurred_at AT TIME ZONE 'UTC')::time = '00:00';

---------------------------------------------------------------------------------------------------------------------
-- Nights: a list of probes built in as few warehouse jobs as possible
--
-- A night is planned by a builder: probes that one statement can read go into one shared job. Their builds are queued with it, and stay
-- queued until their rows are there: complete_shared_build and fail_shared_build start and end a build in one transaction. Whoever asks
-- for one of them before its job has begun gets it first, by a build of its own, and the job goes without it. A job that cannot be done
-- is split, until the probe at fault is alone. Attempts at nights and jobs are fenced as those at builds are: UB001, UB003.

-- Order of locks, for all of these: night, jobs, builds (by id), and the log's last.

-- What is to be done for a probe of a night: 'listed', it is to be built, or why it is not.
CREATE FUNCTION night_outcome(for_product text, for_channel text, for_probe text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    entry catalogue;
    known builds;
BEGIN
    SELECT * INTO entry FROM catalogue c WHERE c.product = for_product AND c.probe = for_probe;
    known := build_to_join(for_product, for_channel, for_probe);
    RETURN coalesce(
        building_refusal(for_product, for_probe, entry.metric_type, entry.built_at, true),
        CASE WHEN known.finished_at IS NOT NULL THEN 'fresh' WHEN known.build_id IS NOT NULL THEN 'pending' ELSE 'listed' END);
END $$;

-- Asks for a night: the one that is under way is answered, if there is one (is_new: false).
CREATE FUNCTION request_night(
    for_product text, for_channel text, probes text[], requests float8[], at_most_bytes bigint DEFAULT NULL,
    by_source text DEFAULT session_user, OUT night_id uuid, OUT is_new boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    now_asked timestamptz := current_instant();
BEGIN
    LOOP
        INSERT INTO nights AS n (product, channel, source, run_date, latest_version, most_bytes, not_before, requested_at)
        VALUES (for_product, for_channel, by_source, utc_day(now_asked),
                (SELECT max(r.version) FROM releases r WHERE r.product = for_product AND r.channel = for_channel),
                at_most_bytes, now_asked, now_asked)
        ON CONFLICT (product, channel) WHERE state <> 'over' DO NOTHING
        RETURNING n.night_id INTO night_id;
        is_new := FOUND;
        EXIT WHEN is_new;
        SELECT n.night_id INTO night_id FROM nights n
        WHERE n.product = for_product AND n.channel = for_channel AND n.state <> 'over';
        EXIT WHEN FOUND;  -- else it has just ended
    END LOOP;
    IF is_new THEN
        INSERT INTO night_probes (night_id, place, probe, requests, outcome)
        SELECT request_night.night_id, row_number() OVER (ORDER BY l.place), l.probe, l.requests,
               night_outcome(for_product, for_channel, l.probe)
        FROM (
            SELECT DISTINCT ON (g.probe) g.* FROM unnest(probes, requests) WITH ORDINALITY AS g (probe, requests, place)
            ORDER BY g.probe, g.place
        ) l;
        PERFORM pg_notify('build_requested', request_night.night_id::text);
    END IF;
END $$;

-- Gives a night that is to be planned to a worker, if there is one: a new one, or one whose planner was not heard of any more.
CREATE FUNCTION claim_night(by_worker text, lease interval, only_night uuid DEFAULT NULL) RETURNS SETOF nights
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE nights n SET worker = by_worker, lease_until = current_instant() + lease, attempt = n.attempt + 1
    WHERE n.night_id = (
        SELECT q.night_id FROM nights q
        WHERE q.state = 'planning' AND q.not_before <= current_instant() AND q.attempt < q.max_attempts
          AND (only_night IS NULL OR q.night_id = only_night)
          AND (q.lease_until IS NULL OR q.lease_until < current_instant())
        ORDER BY q.requested_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING n.*
$$;

-- Locks a night for the worker that plans it at this attempt.
CREATE FUNCTION hold_night(of_night uuid, of_attempt integer) RETURNS nights LANGUAGE plpgsql AS $$
DECLARE
    held nights;
BEGIN
    SELECT * INTO held FROM nights n
    WHERE n.night_id = of_night AND n.attempt = of_attempt AND n.worker IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % no longer plans night %', of_attempt, of_night USING ERRCODE = CASE
            WHEN EXISTS (SELECT FROM nights n WHERE n.night_id = of_night AND n.attempt = of_attempt AND n.state = 'over')
            THEN 'UB003' ELSE 'UB001' END;
    END IF;
    RETURN held;
END $$;

-- Keeps the planner's lease.
CREATE FUNCTION heartbeat_night(of_night uuid, of_attempt integer, lease interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
BEGIN
    UPDATE nights n SET lease_until = current_instant() + lease WHERE n.night_id = held.night_id;
END $$;

-- Queues the builds of probes that one job is to read, and that job. Answers the job's id, or null when none is to be built any more.
CREATE FUNCTION queue_shared_job(
    of_night uuid, of_attempt integer, probes text[], probe_bytes bigint[], job_bytes bigint
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
    new_job uuid := gen_random_uuid();
    created uuid[];
    member builds;
BEGIN
    UPDATE night_probes p SET bytes = g.bytes, outcome = night_outcome(held.product, held.channel, p.probe)
    FROM unnest(probes, probe_bytes) AS g (probe, bytes) WHERE p.night_id = of_night AND p.probe = g.probe AND p.build_id IS NULL;
    -- All of them before the first event: who creates one of them, too, waits for the log while this waits for them.
    WITH inserted AS (
        INSERT INTO builds AS b (
            product, channel, probe, metric_type, pings, definition, prefetched, not_before, requested_at, log_position)
        SELECT held.product, held.channel, p.probe, c.metric_type, c.pings, c.definition, true, current_instant(),
               current_instant(), 0
        FROM night_probes p JOIN catalogue c ON c.product = held.product AND c.probe = p.probe
        WHERE p.night_id = of_night AND p.probe = ANY (probes) AND p.outcome = 'listed' AND p.build_id IS NULL
        ORDER BY p.probe
        ON CONFLICT (product, channel, probe) WHERE state IN ('queued', 'running') DO NOTHING
        RETURNING b.build_id, b.probe
    ), named AS (
        UPDATE night_probes p SET build_id = i.build_id, outcome = 'listed'
        FROM inserted i WHERE p.night_id = of_night AND p.probe = i.probe
    )
    SELECT array_agg(i.build_id ORDER BY array_position(probes, i.probe)) INTO created FROM inserted i;
    UPDATE night_probes p SET outcome = 'pending'  -- somebody was faster
    WHERE p.night_id = of_night AND p.probe = ANY (probes) AND p.outcome = 'listed' AND p.build_id IS NULL;
    IF created IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO shared_jobs (job_id, night_id, builds, not_before, expected_bytes, queued_at)
    VALUES (new_job, of_night, created, current_instant(), job_bytes, current_instant());
    FOR member IN SELECT * FROM builds b WHERE b.build_id = ANY (created) ORDER BY array_position(created, b.build_id) LOOP
        UPDATE builds b SET shared_job = new_job, log_position = record_transition(member, 'build_requested', held.source, '{}')
        WHERE b.build_id = member.build_id;
    END LOOP;
    PERFORM pg_notify('build_requested', new_job::text);
    RETURN new_job;
END $$;

-- Ends the planning: the probes that were left do not fit into the night's bytes.
CREATE FUNCTION complete_planning(of_night uuid, of_attempt integer, probes_left text[], bytes_left bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
BEGIN
    UPDATE night_probes p SET outcome = 'left', bytes = l.bytes
    FROM unnest(probes_left, bytes_left) AS l (probe, bytes)
    WHERE p.night_id = of_night AND p.probe = l.probe AND p.outcome = 'listed' AND p.build_id IS NULL;
    UPDATE nights n SET state = 'running', worker = NULL, lease_until = NULL WHERE n.night_id = of_night;
    PERFORM pg_notify('night_changed', of_night::text);
END $$;

-- Plans again after `retry_in`, while attempts are left; else the night is over, and what was queued already is built. Answers its state.
CREATE FUNCTION fail_planning(
    of_night uuid, of_attempt integer, error_code text, error_message text, retry_in interval DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
    why jsonb := jsonb_build_object('code', error_code, 'message', error_message);
BEGIN
    IF retry_in IS NOT NULL AND held.attempt < held.max_attempts THEN
        UPDATE nights n SET error = why, worker = NULL, lease_until = NULL, not_before = current_instant() + retry_in
        WHERE n.night_id = of_night;
        RETURN 'queued';
    END IF;
    UPDATE nights n SET state = 'running', error = why, worker = NULL, lease_until = NULL WHERE n.night_id = of_night;
    PERFORM pg_notify('night_changed', of_night::text);
    RETURN 'failed';
END $$;

-- Lets another worker plan the night at once.
CREATE FUNCTION hand_back_night(of_night uuid, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
BEGIN
    UPDATE nights n SET worker = NULL, lease_until = NULL, max_attempts = n.max_attempts + 1 WHERE n.night_id = held.night_id;
    PERFORM pg_notify('build_requested', of_night::text);
END $$;

-- Gives up to so many shared jobs to a worker, those of older nights first, of one night if it is named. A job that begins leaves out
-- what was cancelled, or what somebody waits for, which is built by itself; one of which nothing is left is done.
CREATE FUNCTION claim_shared_jobs(by_worker text, lease interval, most integer, of_night uuid DEFAULT NULL) RETURNS SETOF shared_jobs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_job shared_jobs;
    members uuid[];
BEGIN
    FOR found_job IN
        SELECT j.* FROM shared_jobs j
        WHERE j.state = 'queued' AND j.not_before <= current_instant() AND (of_night IS NULL OR j.night_id = of_night)
        ORDER BY j.queued_at, j.job_id LIMIT most FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        members := lock_shared_builds(found_job);  -- so that nobody asks for one while the job begins
        IF found_job.attempt = 0 THEN
            UPDATE builds b SET shared_job = NULL WHERE b.build_id = ANY (members) AND NOT b.prefetched;
            members := lock_shared_builds(found_job);
        END IF;
        IF members = '{}' THEN
            PERFORM end_shared_job(found_job, 'done', NULL);
        ELSE
            RETURN QUERY UPDATE shared_jobs j SET
                state = 'running', builds = CASE j.attempt WHEN 0 THEN members ELSE j.builds END, attempt = j.attempt + 1,
                worker = by_worker,
                lease_until = current_instant() + lease, started_at = coalesce(j.started_at, current_instant()),
                stage = 'started', percent = 0, bytes = NULL, error = NULL
            WHERE j.job_id = found_job.job_id RETURNING j.*;
        END IF;
    END LOOP;
END $$;

-- Locks the builds that a shared job is still to end, for who holds the job. Answers them in the job's order.
CREATE FUNCTION lock_shared_builds(of_job shared_jobs) RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM builds b WHERE b.shared_job = of_job.job_id AND b.state = 'queued' ORDER BY b.build_id FOR NO KEY UPDATE;
    RETURN ARRAY(
        SELECT b.build_id FROM builds b WHERE b.shared_job = of_job.job_id AND b.state = 'queued'
        ORDER BY array_position(of_job.builds, b.build_id));
END $$;

-- Locks a running job for the worker that holds this attempt.
CREATE FUNCTION hold_shared_job(of_job uuid, of_attempt integer) RETURNS shared_jobs LANGUAGE plpgsql AS $$
DECLARE
    held shared_jobs;
BEGIN
    SELECT * INTO held FROM shared_jobs j
    WHERE j.job_id = of_job AND j.attempt = of_attempt AND j.state = 'running' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % of shared job % is no longer running', of_attempt, of_job USING ERRCODE = CASE
            WHEN EXISTS (SELECT FROM shared_jobs j WHERE j.job_id = of_job AND j.attempt = of_attempt AND j.state = 'cancelled')
            THEN 'UB003' ELSE 'UB001' END;
    END IF;
    RETURN held;
END $$;

-- Keeps the lease and, when given, records how far the job is.
CREATE FUNCTION heartbeat_shared_job(
    of_job uuid, of_attempt integer, lease interval,
    new_stage text DEFAULT NULL, new_percent integer DEFAULT NULL, new_bytes bigint DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
BEGIN
    UPDATE shared_jobs j SET
        lease_until = current_instant() + lease, stage = coalesce(new_stage, j.stage), percent = coalesce(new_percent, j.percent),
        bytes = coalesce(new_bytes, j.bytes)
    WHERE j.job_id = held.job_id;
END $$;

-- Starts a build of a running shared job, to end it in the same transaction. A row of nulls where it is not the job's any more:
-- it was cancelled, is being built by itself, or has its rows from an attempt before.
CREATE FUNCTION start_shared_build(of_job shared_jobs, of_build uuid) RETURNS builds LANGUAGE plpgsql AS $$
DECLARE
    member builds;
BEGIN
    SELECT * INTO member FROM builds b
    WHERE b.build_id = of_build AND b.shared_job = of_job.job_id AND b.state = 'queued' FOR NO KEY UPDATE;
    IF FOUND THEN
        UPDATE builds b SET
            state = 'running', attempt = b.attempt + 1, max_attempts = greatest(b.max_attempts, b.attempt + 1),
            worker = of_job.worker, lease_until = of_job.lease_until, started_at = of_job.started_at,
            log_position = record_transition(
                member, 'build_started', of_job.worker, jsonb_build_object('attempt', b.attempt + 1, 'shared_job', of_job.job_id))
        WHERE b.build_id = of_build RETURNING * INTO member;
    END IF;
    RETURN member;
END $$;

-- Ends a build of a shared job with the rows that the worker inserted in this transaction, and its share of the bytes. Answers how many
-- rows it has; raises UB010, so that the rows are not stored, where the build is not the job's any more.
CREATE FUNCTION complete_shared_build(of_job uuid, of_attempt integer, of_build uuid, bytes_share bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    member builds := start_shared_build(hold_shared_job(of_job, of_attempt), of_build);
BEGIN
    IF member.build_id IS NULL THEN
        RAISE EXCEPTION 'build % is not to be ended by shared job %', of_build, of_job USING ERRCODE = 'UB010';
    END IF;
    RETURN succeed_build(member, bytes_share, jsonb_build_object('shared_job', of_job));
END $$;

-- The same for several builds without rows, those of them that are the job's still.
CREATE FUNCTION complete_shared_builds(of_job uuid, of_attempt integer, of_builds uuid[], bytes_share bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
    given uuid;
    member builds;
BEGIN
    PERFORM FROM builds b WHERE b.build_id = ANY (of_builds) ORDER BY b.build_id FOR NO KEY UPDATE;
    FOREACH given IN ARRAY of_builds LOOP
        member := start_shared_build(held, given);
        IF member.build_id IS NOT NULL THEN
            PERFORM succeed_build(member, bytes_share, jsonb_build_object('shared_job', of_job));
        END IF;
    END LOOP;
END $$;

-- Fails a build of a shared job for good: what is wrong is its own.
CREATE FUNCTION fail_shared_build(of_job uuid, of_attempt integer, of_build uuid, error_code text, error_message text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    member builds := start_shared_build(hold_shared_job(of_job, of_attempt), of_build);
BEGIN
    IF member.build_id IS NOT NULL THEN
        PERFORM give_up_attempt(member, jsonb_build_object('code', error_code, 'message', error_message), NULL);
    END IF;
END $$;

-- Ends a shared job whose builds have ended.
CREATE FUNCTION complete_shared_job(of_job uuid, of_attempt integer, bytes_read bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
BEGIN
    held.bytes := bytes_read;
    PERFORM end_shared_job(held, 'done', NULL);
END $$;

-- Tries a shared job again after `retry_in`, while attempts are left. Else it is split: its halves are jobs of their own; or the build
-- fails that is alone in it. Answers the state.
CREATE FUNCTION fail_shared_job(
    of_job uuid, of_attempt integer, error_code text, error_message text, retry_in interval DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN give_up_shared_job(
        hold_shared_job(of_job, of_attempt), jsonb_build_object('code', error_code, 'message', error_message), retry_in);
END $$;

CREATE FUNCTION give_up_shared_job(held shared_jobs, why jsonb, retry_in interval) RETURNS text LANGUAGE plpgsql AS $$
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

CREATE FUNCTION split_shared_job(held shared_jobs, members uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    middle integer := cardinality(members) / 2;
    half uuid[];
    new_job uuid;
BEGIN
    FOR number IN 1..2 LOOP
        half := CASE number WHEN 1 THEN members[:middle] ELSE members[middle + 1:] END;
        CONTINUE WHEN half = '{}';
        INSERT INTO shared_jobs (night_id, split_from, builds, not_before, expected_bytes, queued_at)
        VALUES (held.night_id, held.job_id, half, current_instant(), held.expected_bytes / 2, held.queued_at)
        RETURNING job_id INTO new_job;
        UPDATE builds b SET shared_job = new_job WHERE b.build_id = ANY (half);
    END LOOP;
    PERFORM pg_notify('build_requested', held.job_id::text);
END $$;

-- For who holds the job.
CREATE FUNCTION end_shared_job(held shared_jobs, new_state text, why jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shared_jobs j SET
        state = new_state, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why, bytes = held.bytes,
        finished_at = current_instant()
    WHERE j.job_id = held.job_id;
    PERFORM count_shared_bytes(held.job_id, held.bytes);
    PERFORM pg_notify('night_changed', held.night_id::text), pg_notify('build_requested', held.job_id::text);
END $$;

-- After the log's lock, as all bytes are counted.
CREATE FUNCTION count_shared_bytes(of_job uuid, read bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF uncounted_bytes(of_job, read) > 0 THEN
        PERFORM begin_append();
        PERFORM count_bytes(of_job, read);
    END IF;
END $$;

-- Lets another worker go on with the job at once: costs no attempt.
CREATE FUNCTION hand_back_shared_job(of_job uuid, of_attempt integer) RETURNS void
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

-- Takes a shared job whose worker has not been heard of from it: one a call, so that its builds are locked before the log. Answers
-- whether there was one.
CREATE FUNCTION expire_shared_lease() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    lost shared_jobs;
BEGIN
    SELECT * INTO lost FROM shared_jobs j WHERE j.state = 'running' AND j.lease_until < current_instant()
    ORDER BY j.lease_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM give_up_shared_job(
            lost, jsonb_build_object('code', 'lease_lost', 'message', 'its builder was not heard of any more'), interval '0');
    END IF;
    RETURN lost.job_id IS NOT NULL;
END $$;

-- Cancels a night that is not over, with its builds that nobody waits for. Answers the state that it was in, or null when there is none.
CREATE FUNCTION cancel_night(of_night uuid, by_source text DEFAULT session_user) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found_night nights;
    found_jobs shared_jobs[];
    members uuid[];
    member uuid;
    found_job shared_jobs;
BEGIN
    SELECT * INTO found_night FROM nights n WHERE n.night_id = of_night FOR NO KEY UPDATE;
    IF found_night.state IN ('planning', 'running') THEN
        UPDATE nights n SET
            state = 'over', worker = NULL, lease_until = NULL, finished_at = current_instant(),
            error = jsonb_build_object('code', 'cancelled', 'message', 'cancelled by ' || by_source)
        WHERE n.night_id = of_night;
        found_jobs := ARRAY(
            SELECT j FROM shared_jobs j WHERE j.night_id = of_night AND j.state IN ('queued', 'running')
            ORDER BY j.job_id FOR NO KEY UPDATE);
        members := ARRAY(
            SELECT b.build_id FROM builds b
            WHERE b.shared_job IN (SELECT f.job_id FROM unnest(found_jobs) f) AND b.state = 'queued' AND b.prefetched
            ORDER BY b.build_id FOR NO KEY UPDATE);
        FOREACH member IN ARRAY members LOOP
            PERFORM cancel_build(member, by_source);
        END LOOP;
        FOREACH found_job IN ARRAY found_jobs LOOP
            PERFORM end_shared_job(found_job, 'cancelled', found_job.error);
            UPDATE shared_jobs j SET stop_jobs_at = coalesce(found_job.lease_until, current_instant())
            WHERE j.job_id = found_job.job_id AND j.attempt > 0;
            PERFORM pg_notify('build_cancelled', found_job.job_id::text);
        END LOOP;
        PERFORM record_night_end(of_night, by_source);
    END IF;
    RETURN found_night.state;
END $$;

-- A night in numbers, while it runs and when it is over: its probes by what became of them, its jobs, bytes read and expected.
CREATE VIEW night_totals AS
    SELECT n.night_id, p.*, j.*
    FROM nights n
    CROSS JOIN LATERAL (
        SELECT count(*) AS probes,
               count(*) FILTER (WHERE p.outcome = 'left') AS probes_left,
               count(*) FILTER (WHERE p.outcome NOT IN ('listed', 'left')) AS not_needed,
               count(*) FILTER (WHERE b.state = 'succeeded') AS built,
               count(*) FILTER (WHERE b.state = 'no_data') AS without_data,
               count(*) FILTER (WHERE b.state = 'failed') AS failed,
               count(*) FILTER (WHERE b.state = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE p.outcome = 'listed' AND (b.state IS NULL OR b.state IN ('queued', 'running'))) AS to_build
        FROM night_probes p LEFT JOIN builds b ON b.build_id = p.build_id WHERE p.night_id = n.night_id
    ) p
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE s.state <> 'split') AS jobs,
               count(*) FILTER (WHERE s.finished_at IS NOT NULL AND s.state <> 'split') AS jobs_over,
               coalesce(sum(s.bytes), 0)::bigint AS bytes,
               coalesce(sum(s.expected_bytes) FILTER (WHERE s.split_from IS NULL), 0)::bigint AS expected_bytes
        FROM shared_jobs s WHERE s.night_id = n.night_id
    ) j;

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

-- Ends the nights that were planned and have no job left, each with the event that sums it up. Answers how many.
CREATE FUNCTION end_nights() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    ended nights;
    number integer := 0;
BEGIN
    FOR ended IN
        UPDATE nights n SET
            state = 'over', worker = NULL, lease_until = NULL, finished_at = current_instant(),
            error = CASE n.state WHEN 'running' THEN n.error ELSE
                jsonb_build_object('code', 'lease_lost', 'message', 'those who planned it were not heard of any more') END
        WHERE n.night_id IN (
            SELECT q.night_id FROM nights q
            WHERE (q.state = 'running' OR q.state = 'planning' AND q.attempt = q.max_attempts AND q.lease_until < current_instant())
              AND NOT EXISTS (SELECT FROM shared_jobs j WHERE j.night_id = q.night_id AND j.state IN ('queued', 'running'))
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING n.*
    LOOP
        PERFORM record_night_end(ended.night_id, ended.source);
        number := number + 1;
    END LOOP;
    RETURN number;
END $$;

-- The event that sums a night up, for who has ended it.
CREATE FUNCTION record_night_end(of_night uuid, by_source text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM append_own_event('night_ended', n.product, n.channel, NULL, by_source, jsonb_strip_nulls(
        to_jsonb(t) || jsonb_build_object(
            'seconds', round(extract(epoch FROM n.finished_at - n.requested_at), 3), 'error', n.error)))
    FROM nights n JOIN night_totals t USING (night_id) WHERE n.night_id = of_night;
    PERFORM pg_notify('events_appended', ''), pg_notify('night_changed', of_night::text);
END $$;

---------------------------------------------------------------------------------------------------------------------
-- Sinks: where rows go besides probe_rows. A build that succeeded has the position of its end, and these become visible in order: a
-- sink that has the rows of a channel up to a position lacks those of later builds alone. So nothing is enqueued, builds wait for no
-- sink, and a new one begins with the first build. The rows of some builds at a time go as a batch, one after the other: rows of a
-- later build never go before those of an earlier one.

CREATE TABLE sink_channels (
    sink         text        NOT NULL,
    product      text        NOT NULL,
    channel      text        NOT NULL,
    position     bigint      NOT NULL DEFAULT 0,  -- the end of the last build whose rows it has
    series       uuid        NOT NULL DEFAULT gen_random_uuid(),  -- with the builds, names the jobs of a batch: another one, other jobs
    batch        uuid[],                          -- the builds whose rows are on their way
    attempt      integer     NOT NULL DEFAULT 0,  -- as that of a build: who has been taken the channel from changes nothing
    worker       text,
    lease_until  timestamptz,
    not_before   timestamptz NOT NULL,            -- when the next batch may be claimed: after a pause, or a failure's back-off
    failures     integer     NOT NULL DEFAULT 0,  -- since rows last got there
    error        jsonb,                           -- {code, message} of the last one
    due_at       timestamptz NOT NULL,            -- since when rows that wait might have gone: after the pause
    delivered_at timestamptz,
    PRIMARY KEY (sink, product, channel),
    CONSTRAINT leased_has_a_worker CHECK ((worker IS NULL) = (lease_until IS NULL)),
    CONSTRAINT batch_has_builds CHECK (cardinality(batch) > 0),
    CONSTRAINT failures_have_an_error CHECK ((failures > 0) = (error IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX builds_to_deliver ON builds (product, channel, log_position) WHERE state = 'succeeded';

-- What each sink lacks, and why.
CREATE VIEW sink_status AS
    SELECT s.sink, s.product, s.channel, s.failures, s.error, s.delivered_at, lacking.builds AS waiting,
           greatest(0, extract(epoch FROM current_instant() - greatest(lacking.since, s.due_at))::float8) AS overdue_seconds
    FROM sink_channels s CROSS JOIN LATERAL (
        SELECT count(*) AS builds, min(b.finished_at) AS since FROM builds b
        WHERE b.product = s.product AND b.channel = s.channel AND b.state = 'succeeded' AND b.log_position > s.position
    ) lacking;

-- Where the rows of a build go besides probe_rows, and whether they are there.
CREATE FUNCTION deliveries_of(b builds) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN b.state <> 'succeeded' THEN '[]' ELSE coalesce((
        SELECT jsonb_agg(jsonb_build_object('sink', s.sink, 'delivered', s.position >= b.log_position,
                                            'error', CASE WHEN s.position < b.log_position THEN s.error END) ORDER BY s.sink)
        FROM sink_channels s WHERE s.product = b.product AND s.channel = b.channel), '[]') END
$$;

-- Claims a channel of these products and channels whose rows the sink lacks, if there is one that nobody else delivers.
CREATE FUNCTION claim_delivery(of_sink text, of_products text[], of_channels text[], by_worker text, lease interval)
RETURNS SETOF sink_channels LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO sink_channels (sink, product, channel, not_before, due_at)
    SELECT of_sink, p.product, c.channel, current_instant(), current_instant()
    FROM unnest(of_products) p (product) CROSS JOIN unnest(of_channels) c (channel)
    WHERE EXISTS (SELECT FROM builds b WHERE b.product = p.product AND b.channel = c.channel AND b.state = 'succeeded')
      AND NOT EXISTS (SELECT FROM sink_channels s WHERE (s.sink, s.product, s.channel) = (of_sink, p.product, c.channel))
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    WITH next AS MATERIALIZED (  -- a subquery may be evaluated again for each row that it is joined with, and lock another
        SELECT q.product, q.channel FROM sink_channels q
        WHERE q.sink = of_sink AND q.product = ANY (of_products) AND q.channel = ANY (of_channels)
          AND q.not_before <= current_instant() AND (q.lease_until IS NULL OR q.lease_until < current_instant())
          AND EXISTS (SELECT FROM builds b WHERE b.product = q.product AND b.channel = q.channel AND b.state = 'succeeded'
                                             AND b.log_position > q.position)
        ORDER BY q.not_before LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE sink_channels s SET attempt = s.attempt + 1, worker = left(by_worker, 200), lease_until = current_instant() + lease
    FROM next WHERE s.sink = of_sink AND s.product = next.product AND s.channel = next.channel
    RETURNING s.*;
END $$;

-- Locks a channel for who holds it at this attempt.
CREATE FUNCTION hold_delivery(of_sink text, of_product text, of_channel text, of_attempt integer) RETURNS sink_channels
LANGUAGE plpgsql AS $$
DECLARE
    held sink_channels;
BEGIN
    SELECT * INTO held FROM sink_channels s
    WHERE (s.sink, s.product, s.channel, s.attempt) = (of_sink, of_product, of_channel, of_attempt) AND s.worker IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % at % % of sink % is over', of_attempt, of_product, of_channel, of_sink USING ERRCODE = 'UB001';
    END IF;
    RETURN held;
END $$;

-- Keeps the lease.
CREATE FUNCTION renew_delivery(of_sink text, of_product text, of_channel text, of_attempt integer, lease interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held sink_channels := hold_delivery(of_sink, of_product, of_channel, of_attempt);
BEGIN
    UPDATE sink_channels s SET lease_until = current_instant() + lease
    WHERE (s.sink, s.product, s.channel) = (held.sink, held.product, held.channel);
END $$;

-- The batch to deliver: the one that was begun, or the next builds in their order, as many as fit; fewer after each failure in a row, so
-- that in the end a build that cannot be delivered fails alone. How many rows these builds have now, which later builds may take over.
CREATE FUNCTION plan_delivery(
    of_sink text, of_product text, of_channel text, of_attempt integer, most_builds integer, most_rows bigint, most_bytes bigint,
    OUT builds uuid[], OUT rows bigint, OUT is_begun boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    held sink_channels := hold_delivery(of_sink, of_product, of_channel, of_attempt);
BEGIN
    is_begun := held.batch IS NOT NULL;
    IF NOT is_begun THEN
        WITH candidates AS MATERIALIZED (
            SELECT b.build_id, b.probe, b.log_position FROM builds b
            WHERE b.product = of_product AND b.channel = of_channel AND b.state = 'succeeded' AND b.log_position > held.position
            ORDER BY b.log_position LIMIT greatest(1, most_builds >> least(held.failures, 30))
        ), sizes AS (
            SELECT r.built_by, count(*) AS rows, sum(500 + pg_column_size(r.histogram) + pg_column_size(r.non_norm_histogram)) AS bytes
            FROM probe_rows r  -- of the rest of a row, about 500; whole rows would be read from where they are kept out of line
            WHERE r.product = of_product AND r.channel = of_channel AND r.probe IN (SELECT c.probe FROM candidates c)
              AND r.built_by IN (SELECT c.build_id FROM candidates c)
            GROUP BY r.built_by
        ), counted AS (
            SELECT c.build_id, c.log_position, row_number() OVER in_order AS number,
                   sum(s.rows) OVER in_order AS rows, sum(s.bytes) OVER in_order AS bytes
            FROM candidates c LEFT JOIN sizes s ON s.built_by = c.build_id
            WINDOW in_order AS (ORDER BY c.log_position)
        )
        SELECT array_agg(c.build_id ORDER BY c.log_position) INTO held.batch FROM counted c
        WHERE c.number = 1 OR (coalesce(c.rows, 0) <= most_rows AND coalesce(c.bytes, 0) <= most_bytes);
        UPDATE sink_channels s SET batch = held.batch
        WHERE (s.sink, s.product, s.channel) = (held.sink, held.product, held.channel);
    END IF;
    builds := held.batch;
    rows := (
        SELECT count(*) FROM probe_rows r
        WHERE r.product = of_product AND r.channel = of_channel AND r.built_by = ANY (held.batch)
          AND r.probe IN (SELECT b.probe FROM builds b WHERE b.build_id = ANY (held.batch)));
END $$;

-- Ends a batch: the sink has its rows. The next one waits for `pause`, so that more builds go together, unless one has waited as long.
CREATE FUNCTION complete_delivery(of_sink text, of_product text, of_channel text, of_attempt integer, pause interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held sink_channels := hold_delivery(of_sink, of_product, of_channel, of_attempt);
    reached bigint := (SELECT max(b.log_position) FROM builds b WHERE b.build_id = ANY (held.batch));
    next_at timestamptz := current_instant() + CASE WHEN EXISTS (
        SELECT FROM builds b
        WHERE b.product = of_product AND b.channel = of_channel AND b.state = 'succeeded' AND b.log_position > reached
          AND b.finished_at <= current_instant() - pause) THEN interval '0' ELSE pause END;
BEGIN
    UPDATE sink_channels s SET
        position = reached, batch = NULL, worker = NULL, lease_until = NULL, failures = 0, error = NULL,
        delivered_at = current_instant(),
        not_before = next_at, due_at = next_at
    WHERE (s.sink, s.product, s.channel) = (held.sink, held.product, held.channel);
END $$;

-- Ends an attempt that failed, to be tried again after `retry_in`. With `anew` none of its jobs has given anything or will: a batch
-- is planned anew, with jobs of its own. Without it the next attempt goes on with the jobs of this one.
CREATE FUNCTION fail_delivery(
    of_sink text, of_product text, of_channel text, of_attempt integer, error_code text, error_message text, retry_in interval,
    anew boolean
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held sink_channels := hold_delivery(of_sink, of_product, of_channel, of_attempt);
BEGIN
    UPDATE sink_channels s SET
        worker = NULL, lease_until = NULL, failures = s.failures + 1, not_before = current_instant() + retry_in,
        error = jsonb_build_object('code', error_code, 'message', left(error_message, 2000)),
        batch = CASE WHEN anew THEN NULL ELSE s.batch END, series = CASE WHEN anew THEN gen_random_uuid() ELSE s.series END
    WHERE (s.sink, s.product, s.channel) = (held.sink, held.product, held.channel);
END $$;

-- Gives a channel back whose batch this worker will not finish, for another one to go on with at once.
CREATE FUNCTION hand_back_delivery(of_sink text, of_product text, of_channel text, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held sink_channels := hold_delivery(of_sink, of_product, of_channel, of_attempt);
BEGIN
    UPDATE sink_channels s SET worker = NULL, lease_until = NULL
    WHERE (s.sink, s.product, s.channel) = (held.sink, held.product, held.channel);
END $$;

-- Lets a sink get all rows again, as after its table was lost. For the owner. Answers how many channels these are.
CREATE FUNCTION deliver_again(of_sink text) RETURNS bigint LANGUAGE sql SET search_path = public, pg_temp AS $$
    WITH again AS (
        UPDATE sink_channels SET
            position = 0, batch = NULL, series = gen_random_uuid(), attempt = attempt + 1, worker = NULL, lease_until = NULL,
            failures = 0, error = NULL, not_before = current_instant(), due_at = current_instant()
        WHERE sink = of_sink RETURNING 1)
    SELECT count(*) FROM again
$$;

---------------------------------------------------------------------------------------------------------------------
-- Hot list: which probes the ETL should build. Its scores are reckoned from popularity_views and popularity_returns by the service.

-- What operators have said of a probe: 'pinned', it is always listed; 'excluded', it is neither listed nor built.
CREATE TABLE hotlist_rules (
    product      text        NOT NULL,
    probe        text        NOT NULL,
    rule         text        NOT NULL,
    reason       text        NOT NULL,
    source       text        NOT NULL,
    since        timestamptz NOT NULL,
    log_position bigint      NOT NULL,
    PRIMARY KEY (product, probe),
    CONSTRAINT rule_is_known CHECK (rule IN ('pinned', 'excluded'))
);
CREATE INDEX hotlist_rule_events ON event_log (position)
    WHERE type IN ('probe_pinned', 'probe_unpinned', 'probe_excluded', 'probe_included');

-- Sets the rule of a probe, or lifts it (null), with the event that says who did. Answers the event's position, or null
-- when it was so already.
CREATE FUNCTION set_hotlist_rule(
    for_product text, for_probe text, new_rule text, why text, by_source text DEFAULT session_user
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    old_rule text;
    event_position bigint;
BEGIN
    PERFORM lock_event_log();  -- of two at the same time, the second sees what the first did
    SELECT r.rule INTO old_rule FROM hotlist_rules r WHERE r.product = for_product AND r.probe = for_probe;
    IF new_rule IS NOT DISTINCT FROM old_rule THEN
        RETURN NULL;
    END IF;
    event_position := append_own_event(
        CASE coalesce(new_rule, 'not ' || old_rule) WHEN 'pinned' THEN 'probe_pinned' WHEN 'excluded' THEN 'probe_excluded'
             WHEN 'not pinned' THEN 'probe_unpinned' ELSE 'probe_included' END,
        for_product, NULL, for_probe, by_source, jsonb_build_object('reason', why));
    DELETE FROM hotlist_rules r WHERE r.product = for_product AND r.probe = for_probe;
    INSERT INTO hotlist_rules (product, probe, rule, reason, source, since, log_position)
    SELECT for_product, for_probe, new_rule, why, by_source, current_instant(), event_position WHERE new_rule IS NOT NULL;
    PERFORM pg_notify('events_appended', '');
    RETURN event_position;
END $$;

-- Adds a pattern, or lifts one, with the event that says who did. Answers the event's position, or null when it was so already.
CREATE FUNCTION set_hidden_probes(
    new_pattern text, for_product text, is_hidden boolean, why text, by_source text DEFAULT session_user
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    event_position bigint;
BEGIN
    PERFORM lock_event_log();  -- of two at the same time, the second sees what the first did
    IF is_hidden = EXISTS (
        SELECT FROM hidden_probes h WHERE h.pattern = new_pattern AND h.product = for_product AND h.hidden
    ) THEN
        RETURN NULL;
    END IF;
    event_position := append_own_event(
        CASE WHEN is_hidden THEN 'probes_hidden' ELSE 'probes_shown' END, nullif(for_product, ''), NULL, NULL, by_source,
        jsonb_build_object('pattern', new_pattern, 'reason', why));
    INSERT INTO hidden_probes AS h (pattern, product, reason, source, hidden, log_position)
    VALUES (new_pattern, for_product, why, by_source, is_hidden, event_position)
    ON CONFLICT (pattern, product) DO UPDATE
    SET reason = CASE WHEN is_hidden THEN why ELSE h.reason END, source = CASE WHEN is_hidden THEN by_source ELSE h.source END,
        hidden = is_hidden, log_position = event_position;
    PERFORM pg_notify('events_appended', '');
    RETURN event_position;
END $$;

-- The list that a run was given: made once, never changed.
CREATE TABLE hotlist_runs (
    run          text        PRIMARY KEY,
    asked        jsonb       NOT NULL,
    made_at      timestamptz NOT NULL,
    log_position bigint      NOT NULL,
    list         json        NOT NULL  -- json, not jsonb: byte for byte
);

-- Keeps the list of a run, or finds the one that the run has already.
CREATE FUNCTION keep_hotlist(
    new_run text, new_asked jsonb, at_position bigint, new_list json,
    OUT run text, OUT asked jsonb, OUT made_at timestamptz, OUT log_position bigint, OUT list json, OUT is_new boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO hotlist_runs (run, asked, made_at, log_position, list)
    VALUES (new_run, new_asked, current_instant(), at_position, new_list) ON CONFLICT DO NOTHING;
    is_new := FOUND;
    SELECT r.* INTO run, asked, made_at, log_position, list FROM hotlist_runs r WHERE r.run = new_run;
END $$;

-- What each policy would have caught on each day, had its list of so many probes been built the night before; what a night would have
-- read, and how long people would have waited for what was not listed. Filled by servers from the projections, by the code that makes
-- the hot list: policies are no SQL, so this is no projection, but it is made of nothing else and can be filled anew at any time.
CREATE TABLE policy_nights (
    code     text    NOT NULL,  -- digest of the code that chose: other code has rows of its own
    product  text    NOT NULL,
    day      date    NOT NULL,
    policy   text    NOT NULL,
    budget   integer NOT NULL,
    requests bigint  NOT NULL,  -- of that day
    caught   bigint  NOT NULL,
    bytes    bigint,            -- null: no build had told yet
    seconds  float8,
    PRIMARY KEY (code, product, day, policy, budget),
    CONSTRAINT names_are_short CHECK (length(code) <= 100 AND length(policy) <= 100)
);

-- Up to where the log is in policy_nights, and until when a server has the filling to itself.
CREATE TABLE policy_fillings (
    code          text        NOT NULL,
    product       text        NOT NULL,
    log_position  bigint,      -- null: the first filling is under way
    generations   text,        -- of the projections that it was read from
    catalogue     jsonb,       -- what was known of each probe: where that changes, so do all nights
    filled_at     timestamptz,
    claimed_until timestamptz NOT NULL,
    PRIMARY KEY (code, product),
    CONSTRAINT code_is_short CHECK (length(code) <= 100)
);

-- Claims the filling of a product for a time, unless another server has it. Answers whether it did.
CREATE FUNCTION claim_policy_filling(of_code text, of_product text, lease interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO policy_fillings AS f (code, product, claimed_until) VALUES (of_code, of_product, current_instant() + lease)
    ON CONFLICT (code, product) DO UPDATE SET claimed_until = excluded.claimed_until WHERE f.claimed_until <= current_instant();
    RETURN FOUND;
END $$;

-- Stores nights of a product, in the place of those that were there, and keeps the claim.
CREATE FUNCTION store_policy_nights(
    of_code text, of_product text, lease interval, days date[], policies text[], budgets integer[], requests bigint[], caught bigint[],
    bytes bigint[], seconds float8[]
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE policy_fillings SET claimed_until = current_instant() + lease WHERE code = of_code AND product = of_product;
    INSERT INTO policy_nights AS n (code, product, day, policy, budget, requests, caught, bytes, seconds)
    SELECT of_code, of_product, g.* FROM unnest(days, policies, budgets, requests, caught, bytes, seconds) g
    ON CONFLICT (code, product, day, policy, budget) DO UPDATE SET
        requests = excluded.requests, caught = excluded.caught, bytes = excluded.bytes, seconds = excluded.seconds;
$$;

-- Ends a filling: what the log holds up to a position is in it. The next one is due after `pause`. Rows of other code that nobody has
-- filled for a day go.
CREATE FUNCTION end_policy_filling(of_code text, of_product text, at_position bigint, of_generations text, of_catalogue jsonb, pause interval)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE policy_fillings SET
        log_position = at_position, generations = of_generations, catalogue = of_catalogue, filled_at = current_instant(),
        claimed_until = current_instant() + pause
    WHERE code = of_code AND product = of_product;
    WITH outdated AS (
        DELETE FROM policy_fillings f WHERE f.code <> of_code AND f.claimed_until < current_instant() - interval '1 day'
        RETURNING f.code, f.product
    )
    DELETE FROM policy_nights n USING outdated o WHERE n.code = o.code AND n.product = o.product;
$$;

-- Cancels the queued builds of probes that the ETL has built, where they were asked for before it had.
-- Those that run go on, because the warehouse bills for what it has begun. Answers how many ended.
CREATE FUNCTION cancel_builds_done_by_etl(
    for_product text, for_channel text, for_probes text[], built_at timestamptz, by_source text DEFAULT session_user
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    waiting builds;
    ended integer := 0;
    found_builds builds[] := ARRAY(  -- all of them before the log's lock, which the first one takes
        SELECT b FROM builds b
        WHERE b.product = for_product AND b.channel = for_channel AND b.probe = ANY (for_probes)
          AND b.state = 'queued' AND b.requested_at < built_at
        ORDER BY b.build_id FOR NO KEY UPDATE);
BEGIN
    FOREACH waiting IN ARRAY found_builds LOOP
        PERFORM end_build(waiting, 'cancelled', jsonb_build_object(
            'code', 'built_by_etl', 'message', 'the ETL has built the probe: its rows are where the ETL writes them'),
            waiting.bytes, NULL, record_transition(waiting, 'build_cancelled', by_source, jsonb_build_object(
                'attempt', waiting.attempt, 'code', 'built_by_etl')));
        ended := ended + 1;
    END LOOP;
    RETURN ended;
END $$;

---------------------------------------------------------------------------------------------------------------------
-- Retention: old events are exported, then dropped; projections keep what they made of them. For the owner alone: nothing
-- here is granted to anybody.

CREATE TABLE dropped_events (
    event_id    uuid   PRIMARY KEY,
    digest      uuid   NOT NULL,
    fingerprint uuid   NOT NULL,  -- of the whole row: what is put back is what was dropped
    position    bigint NOT NULL
);
-- Readers ask for the last one, to know from where on the log is whole.
CREATE INDEX dropped_events_by_position ON dropped_events (position);

-- How often events were dropped or put back: what is read from the log besides projections is another then.
CREATE TABLE retention_changes (
    number bigint NOT NULL
);
INSERT INTO retention_changes VALUES (0);

-- The first position from which on the log holds every event: after the last that was dropped, whatever was put back.
CREATE FUNCTION whole_from() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(position), 0) + 1 FROM dropped_events
$$;

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

-- Depends on the time zone: who calls it sets that.
CREATE FUNCTION fingerprint_event(e event_log) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT md5(e::text)::uuid
$$;

-- Drops events that were exported: those given, each as the log has it, and folded by every projection. Answers how many.
-- Raises UB006 where one is not so, and drops none.
CREATE FUNCTION drop_events(exported event_log[]) RETURNS bigint
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

-- An event as it is kept: older ones, and older files, name who was erased.
CREATE FUNCTION without_erased(e event_log) RETURNS event_log LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF e.type = 'visitor_erased' THEN
        e.visitor := NULL;
    END IF;
    RETURN e;
END $$;

-- Puts dropped events back; those that are there already are passed over. Answers how many. Raises UB006 where one is not as
-- it was, and puts back none.
CREATE FUNCTION put_back_events(exported event_log[]) RETURNS bigint
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

---------------------------------------------------------------------------------------------------------------------
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

---------------------------------------------------------------------------------------------------------------------
-- Tokens: who may do what over HTTP. Only a hash is kept: of 256 random bits there is nothing to guess, so it needs no
-- salt and no slowness. Several tokens may have one name, so that one can be replaced before it expires.

CREATE TABLE tokens (
    token_id   uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text        NOT NULL,  -- the source of the events that are posted with it
    digest     bytea       NOT NULL UNIQUE,  -- SHA-256
    scopes     text[]      NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT name_is_short CHECK (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    CONSTRAINT digest_is_sha256 CHECK (length(digest) = 32),
    CONSTRAINT scopes_are_known CHECK (scopes <> '{}' AND scopes <@ ARRAY['events', 'read', 'build', 'admin', 'feed']),
    CONSTRAINT a_feed_goes_alone CHECK (scopes = '{feed}' OR NOT 'feed' = ANY (scopes)),  -- its token is in an address
    CONSTRAINT it_lives CHECK (expires_at > created_at)
);

CREATE FUNCTION create_token(with_name text, with_digest bytea, with_scopes text[], lifetime interval) RETURNS tokens
LANGUAGE sql AS $$
    INSERT INTO tokens (name, digest, scopes, created_at, expires_at)
    VALUES (with_name, with_digest, with_scopes, current_instant(), current_instant() + lifetime)
    RETURNING *
$$;

-- Revokes the token with this id, or all with this name. Answers how many there were.
CREATE FUNCTION revoke_token(id_or_name text) RETURNS bigint LANGUAGE sql AS $$
    WITH revoked AS (
        UPDATE tokens SET revoked_at = current_instant()
        WHERE (name = id_or_name OR token_id::text = id_or_name) AND revoked_at IS NULL
        RETURNING 1
    )
    SELECT count(*) FROM revoked
$$;

-- Sessions of the pages: a browser shows one in a cookie instead of a token.
CREATE TABLE page_sessions (
    digest     bytea       PRIMARY KEY,  -- SHA-256 of what the cookie holds, 256 random bits as well
    token_id   uuid        REFERENCES tokens ON DELETE CASCADE,  -- which opened it: it opens what that does, as long as that does
    proof      bytea,                    -- instead, of the operator's token, which is in no table: SHA-256 of the cookie's and it
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT digests_are_sha256 CHECK (length(digest) = 32 AND length(proof) = 32),
    CONSTRAINT one_token_opened_it CHECK ((token_id IS NULL) <> (proof IS NULL)),
    CONSTRAINT it_lasts CHECK (expires_at > created_at)
);
CREATE INDEX page_sessions_by_token ON page_sessions (token_id, created_at);

-- Opens a session for the token with this digest, or for who has proved to have the operator's (null); a token has 100 at most,
-- of which the oldest ends. Answers whether it was opened: the token may be no longer valid.
CREATE FUNCTION open_page_session(with_digest bytea, of_token bytea, with_proof bytea, lifetime interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_id uuid;
BEGIN
    IF of_token IS NOT NULL THEN
        SELECT t.token_id INTO of_id FROM tokens t
        WHERE t.digest = of_token AND t.revoked_at IS NULL AND t.expires_at > current_instant();
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO page_sessions (digest, token_id, proof, created_at, expires_at)
    VALUES (with_digest, of_id, with_proof, current_instant(), current_instant() + lifetime);
    DELETE FROM page_sessions s WHERE s.digest = ANY (ARRAY(
        SELECT e.digest FROM page_sessions e WHERE e.expires_at <= current_instant() LIMIT 1000 FOR UPDATE SKIP LOCKED));
    DELETE FROM page_sessions s WHERE s.digest = ANY (ARRAY(
        SELECT o.digest FROM page_sessions o WHERE o.token_id IS NOT DISTINCT FROM of_id
        ORDER BY o.created_at DESC, o.digest OFFSET 100 FOR UPDATE SKIP LOCKED));
    RETURN true;
END $$;

CREATE FUNCTION close_page_session(with_digest bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM page_sessions WHERE digest = with_digest
$$;

---------------------------------------------------------------------------------------------------------------------
-- Privileges: the log grows only through append_events() and the transitions, which run as their owner.

DO $$
DECLARE
    role_name text;
BEGIN
    -- Roles belong to the whole cluster: another database may have made them, at this very moment too.
    FOREACH role_name IN ARRAY ARRAY['usage_server', 'usage_builder', 'usage_reader', 'usage_projections'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        -- From PostgreSQL 16 on, who created a role may not yet become it.
        IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
        END IF;
    END LOOP;
END $$;

-- Functions may be called only by whom they are meant for (an extension's own stay as they are).
DO $$
DECLARE
    routine regprocedure;
BEGIN
    FOR routine IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', routine);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT EXECUTE ON FUNCTION current_instant, utc_day, last_position, whole_from, referrer_host, series_number, bucket_start,
    whole_buckets, window_buckets, window_visitors, shared_visitors, sessions_begun, sessions_of_visit, sampled_sessions, sample_key, sample_bound,
    sample_key_for, is_excluded, hidden_by, largest_gap
    TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT EXECUTE ON FUNCTION most_names, name_hash, names_beyond TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT EXECUTE ON FUNCTION projection_setting TO usage_projections;
REVOKE SELECT ON visitor_keys, miss_allowances, event_log_lock, filling_lock FROM usage_server, usage_builder, usage_reader, usage_projections;
REVOKE SELECT ON tokens, page_sessions FROM usage_builder, usage_reader, usage_projections;
REVOKE SELECT ON dead_letters FROM usage_builder, usage_projections;
GRANT EXECUTE ON FUNCTION append_events, append_new_events, restore_events, probe_recording, forget_visitors, advance_projection, advance_together, fail_projection, request_build,
    request_build_once, request_missed_build, cancel_build, retry_build, fresh_since, set_hotlist_rule, set_hidden_probes, keep_hotlist,
    cancel_builds_done_by_etl, open_page_session, close_page_session, claim_policy_filling, store_policy_nights, end_policy_filling,
    request_night, cancel_night
    TO usage_server;
GRANT EXECUTE ON FUNCTION claim_build, heartbeat_build, complete_build, complete_builds, exchange_builds, account_build_job, account_shared_job, fail_build, expire_leases, hand_back_build,
    retry_build, bytes_left_today, claim_orphaned_jobs, mark_jobs_stopped, note_builder,
    claim_night, heartbeat_night, queue_shared_job, complete_planning, fail_planning, hand_back_night, claim_shared_jobs,
    heartbeat_shared_job, complete_shared_build, complete_shared_builds, fail_shared_build, complete_shared_job, fail_shared_job,
    hand_back_shared_job, expire_shared_lease, end_nights
    TO usage_builder;
GRANT EXECUTE ON FUNCTION mirror_day, mirror_verified_to TO usage_server, usage_builder, usage_reader;
GRANT EXECUTE ON FUNCTION begin_mirror, plan_load, complete_load, loads_to_verify, verify_loads, repair_load, fail_mirror TO usage_server;
GRANT EXECUTE ON FUNCTION deliveries_of, night_seconds_left TO usage_server;
GRANT EXECUTE ON FUNCTION claim_delivery, renew_delivery, plan_delivery, complete_delivery, fail_delivery, hand_back_delivery TO usage_builder;
GRANT EXECUTE ON FUNCTION note_statement TO usage_builder;
GRANT INSERT ON probe_rows TO usage_builder;
