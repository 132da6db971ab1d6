-- works with: 2
-- What programs of version 2 call has the same names and answers: they go on beside those of version 3.
--
-- Tables that are filled beside a projection lack what is added to the live ones: what is filled is dropped and filled anew.
SELECT drop_projection(name, stage) FROM projections WHERE stage <> 'live';

-- Locks that need a right, in the place of advisory ones, which anybody may take. Whoever folds, fills or drops ends first;
-- who waits for the projections now goes on by the new functions. What waits for the log's lock goes on by the old one:
-- lock_event_log() takes both for a minute.
LOCK TABLE projections IN ACCESS EXCLUSIVE MODE;
SELECT pg_advisory_xact_lock(history_lock());
CREATE TABLE event_log_lock ();
CREATE TABLE filling_lock ();
CREATE OR REPLACE FUNCTION lock_event_log() RETURNS void LANGUAGE plpgsql AS $$
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
CREATE OR REPLACE FUNCTION lock_projection(projection text, at_stage text, OUT locked boolean) LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.stage = at_stage)
        OR EXISTS (SELECT FROM projections p WHERE p.name = projection AND p.stage = at_stage FOR NO KEY UPDATE SKIP LOCKED)
$$;
CREATE OR REPLACE FUNCTION advance_projection(
    projection text, batch_size integer, at_stage text DEFAULT 'live', OUT was_at bigint, OUT now_at bigint,
    OUT log_end bigint
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
END $$;
CREATE OR REPLACE FUNCTION drop_projection(projection text, at_stage text) RETURNS boolean
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    dropped projections;
BEGIN
    DELETE FROM projections p WHERE p.name = projection AND p.stage = at_stage AND p.home <> 'public'
    RETURNING * INTO dropped;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP SCHEMA %I CASCADE', dropped.home);
    RETURN true;
END $$;
CREATE OR REPLACE FUNCTION require_whole_log() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE dropped_events IN SHARE MODE;  -- nobody drops events meanwhile
    IF EXISTS (SELECT FROM dropped_events) THEN
        RAISE EXCEPTION 'events up to position % were dropped, so no projection can be filled from the log',
            (SELECT max(d.position) FROM dropped_events d) USING ERRCODE = 'UB005',
            HINT = 'put them back from their exports with `usage-service retention restore FILE...`, then drop them again';
    END IF;
END $$;
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
    RETURN put_back;
END $$;
CREATE OR REPLACE FUNCTION begin_filling(projection text, to_stage text, new_settings jsonb DEFAULT NULL) RETURNS uuid
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
        RETURN begun.generation;
    END IF;
    PERFORM require_whole_log();
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
DROP FUNCTION projection_lock;
DROP FUNCTION lock_filling;
DROP FUNCTION history_lock;

-- Statements of others run in functions that belong to the role with the least rights.
CREATE FUNCTION run_definition(statements text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE statements;
END $$;
CREATE FUNCTION run_fold(fold text, after_position bigint, to_position bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    written text;
BEGIN
    EXECUTE format('SELECT %I($1, $2)', fold) INTO written USING after_position, to_position;
    RETURN written;
END $$;
CREATE FUNCTION session_settings(of_path text) RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT string_agg(coalesce(current_setting(s, true), ''), '|') || '|' || of_path
    FROM unnest(ARRAY[
        'usage.now', 'timezone', 'datestyle', 'intervalstyle', 'bytea_output', 'client_encoding', 'extra_float_digits',
        'standard_conforming_strings', 'transform_null_equals', 'row_security', 'statement_timeout', 'lock_timeout',
        'idle_in_transaction_session_timeout', 'synchronous_commit', 'default_transaction_isolation',
        'default_transaction_read_only', 'session_replication_role']) s
$$;
CREATE FUNCTION require_confinement(settings_before text, path_after text) RETURNS void
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
        WHEN (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = confined
              AND p.prosecdef AND p.proname IN ('run_definition', 'run_fold')) <> 2
            THEN 'changes to run_definition() and run_fold(), which belong to usage_projections and are SECURITY DEFINER'
    END;
    IF what IS NOT NULL THEN
        RAISE EXCEPTION 'the statements of a projection may have no %', what USING ERRCODE = 'UB007';
    END IF;
END $$;
CREATE OR REPLACE FUNCTION define_projection(projection text, to_stage text, statements text) RETURNS uuid
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
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION usage_projections', new_home);
    PERFORM set_config('search_path', quote_ident(new_home) || ', public, pg_temp', true);
    settings_before := session_settings(current_setting('search_path'));
    PERFORM run_definition(statements);
    PERFORM public.require_confinement(settings_before, pg_catalog.current_setting('search_path'));
    PERFORM set_config('search_path', 'public, pg_temp', true);
    fold := to_regprocedure(format('%I.%I(bigint, bigint)', new_home, 'fold_' || projection));
    filled_tables := ARRAY(SELECT t.tablename::text FROM pg_tables t WHERE t.schemaname = new_home ORDER BY 1);
    IF fold IS NULL OR filled_tables = '{}' THEN
        RAISE EXCEPTION 'the statements create no %',
            CASE WHEN fold IS NULL THEN format('function fold_%s(after_position bigint, to_position bigint)', projection) ELSE 'table' END
            USING ERRCODE = 'invalid_function_definition';
    END IF;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', fold);  -- else whoever calls it counts twice
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO usage_server, usage_reader', new_home);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO usage_server, usage_reader', new_home);
    INSERT INTO projections (name, stage, version, home, tables, definition)
    VALUES (projection, to_stage, coalesce((
        SELECT p.version + (p.definition <> statements)::integer FROM projections p WHERE p.name = projection AND p.stage = 'live'
    ), 1), new_home, filled_tables, statements)
    RETURNING * INTO begun;
    RETURN begun.generation;
END $$;
REVOKE ALL ON FUNCTION run_definition, run_fold, session_settings, require_confinement FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO usage_projections;
ALTER FUNCTION run_definition OWNER TO usage_projections;
ALTER FUNCTION run_fold OWNER TO usage_projections;
REVOKE CREATE ON SCHEMA public FROM usage_projections;

---------------------------------------------------------------------------------------------------------------------
-- Hidden probes

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
CREATE OR REPLACE FUNCTION is_excluded(probe text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM hidden_by('', probe))
$$;

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
    IF EXISTS (SELECT FROM hidden_by(for_product, for_probe)) OR EXISTS (
        SELECT FROM hotlist_rules r WHERE r.product = for_product AND r.probe = for_probe AND r.rule = 'excluded'
    ) THEN
        outcome := 'excluded';  -- whether the catalogue has it or not
        RETURN;
    ELSIF entry.metric_type IS NULL THEN
        outcome := 'unknown';
        RETURN;
    ELSIF NOT coalesce((SELECT m.buildable FROM metric_types m WHERE m.metric_type = entry.metric_type), false) THEN
        outcome := 'unbuildable';
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

GRANT SELECT ON hidden_probes TO usage_server, usage_builder, usage_reader, usage_projections;
REVOKE ALL ON FUNCTION hidden_by, set_hidden_probes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hidden_by TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT EXECUTE ON FUNCTION set_hidden_probes TO usage_server;

-- Servers and alerts know from the database whether there is a builder.
CREATE TABLE builders (
    name    text        PRIMARY KEY,
    seen_at timestamptz NOT NULL,
    CONSTRAINT name_is_short CHECK (length(name) <= 200)
) WITH (fillfactor = 50);
GRANT SELECT ON builders TO usage_server, usage_builder, usage_reader, usage_projections;
CREATE FUNCTION note_builder(builder text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM builders b WHERE b.name = ANY (ARRAY(
        SELECT o.name FROM builders o WHERE o.seen_at < current_instant() - interval '1 day' FOR UPDATE SKIP LOCKED));
    INSERT INTO builders VALUES (left(builder, 200), current_instant())
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at;
$$;
REVOKE ALL ON FUNCTION note_builder FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_builder TO usage_builder;

---------------------------------------------------------------------------------------------------------------------
-- Times of GLAM's usage list

-- GLAM's ranges of time end with an instant, which counts by days leave out.
CREATE INDEX views_at_midnight ON event_log (occurred_at)
    WHERE type = 'probe_viewed' AND (occurred_at AT TIME ZONE 'UTC')::time = '00:00';

-- What restoring may do to positions, and how positions are drawn: a sequence behind the log, or at the end of all positions, is said
-- so. The event that erases somebody does not name them.
CREATE OR REPLACE FUNCTION append_events(
    event_ids uuid[], types text[], schema_versions smallint[], occurred timestamptz[], lookups uuid[],
    epochs integer[], products text[], channels text[], probes text[], sources text[], payloads jsonb[], digests uuid[]
) RETURNS TABLE (item integer, log_position bigint, outcome text)
-- Hash joins only: the planner does not know how long the arrays are, and takes nested loops for the long ones too.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_nestloop = off AS $$
BEGIN
    PERFORM begin_append();
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
        DELETE FROM visitor_keys k USING unnest(lookups, types) AS e (lookup, type)
        WHERE k.lookup = e.lookup AND e.type = 'visitor_erased';
        -- Theirs of an earlier epoch is under another lookup, and due to be forgotten anyhow.
        DELETE FROM visitor_keys k WHERE k.epoch < (SELECT max(e) FROM unnest(epochs) AS e);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION restore_events(
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

CREATE OR REPLACE FUNCTION largest_gap() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1000000000::bigint $$;

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

CREATE OR REPLACE FUNCTION position_moved_to(was_at bigint, gap_after bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN was_at <= gap_after THEN was_at ELSE (
        SELECT gap_after + count(*) FROM event_log e WHERE e.position > gap_after AND e.position <= was_at) END
$$;

CREATE OR REPLACE FUNCTION begin_append() RETURNS void LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION probe_recording() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', '1500ms', true);
    PERFORM begin_append();
    UPDATE recording_probe SET probed_at = clock_timestamp();
END $$;

CREATE OR REPLACE FUNCTION append_own_event(
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

CREATE OR REPLACE FUNCTION without_erased(e event_log) RETURNS event_log LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF e.type = 'visitor_erased' THEN
        e.visitor := NULL;
    END IF;
    RETURN e;
END $$;

REVOKE ALL ON FUNCTION largest_gap, close_gap, position_moved_to, begin_append, without_erased FROM PUBLIC;
GRANT EXECUTE ON FUNCTION largest_gap TO usage_server, usage_builder, usage_reader, usage_projections;

-- Sessions of the pages, instead of the token in a cookie.
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
GRANT SELECT ON page_sessions TO usage_server;
REVOKE ALL ON FUNCTION open_page_session, close_page_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_page_session, close_page_session TO usage_server;

-- Sessions keep a hundred names of each kind, and one more, which tells that there are others; nothing without a bound is in an
-- index. An event that a projection cannot fold is set aside. Programs of version 2 fold by the same function, which does both.
LOCK TABLE projections IN ACCESS EXCLUSIVE MODE;  -- nobody folds meanwhile

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
CREATE OR REPLACE FUNCTION most_dead_letters() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1000 $$;

-- How far each is, how many events and for how long it is behind, what it cannot go on with, and the first of what it set aside.
CREATE OR REPLACE VIEW projection_status AS
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

DROP FUNCTION advance_projection(text, integer, text);

-- Folds the next batch of a projection: its position before and after, the end of the log (for what is filled for
-- verification: of what the live one has folded), and how many of these events it set aside. At most one caller at a time
-- folds a projection; the others return at once, unmoved. Raises UB004 when there is no such projection.
CREATE OR REPLACE FUNCTION advance_projection(
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

-- Folds up to a position, for who holds the projection's lock. Answers where it is then. A verification leaves out what the
-- live projection has set aside.
CREATE OR REPLACE FUNCTION fold_projection(of_projection projections, to_position bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    after_position bigint := of_projection.position;
    ranges int8multirange := int8multirange(int8range(after_position, greatest(after_position, to_position), '(]'));
    has_changed boolean;
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
    has_changed := fold_ranges(of_projection, ranges);
    UPDATE projections p SET
        position = to_position, updated_at = clock_timestamp(), failed_at = NULL, failed_after = NULL, error = NULL,
        changed_at = CASE WHEN has_changed THEN to_position ELSE p.changed_at END
    WHERE p.name = of_projection.name AND p.stage = of_projection.stage;
    RETURN to_position;
END $$;

-- Folds the events at these positions. Answers whether any row has changed.
CREATE OR REPLACE FUNCTION fold_ranges(of_projection projections, ranges int8multirange) RETURNS boolean
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
CREATE OR REPLACE FUNCTION fold_range(of_projection projections, after_position bigint, to_position bigint) RETURNS boolean
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
            written := public.run_fold('fold_' || of_projection.name, after_position, to_position);
            PERFORM public.require_confinement(settings_before, pg_catalog.current_setting('search_path'));
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
CREATE OR REPLACE FUNCTION set_aside(of_projection projections, at_position bigint, state text, message text) RETURNS void
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
CREATE OR REPLACE FUNCTION refold_dead_letters(of_projection projections, positions bigint[]) RETURNS void
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
CREATE OR REPLACE FUNCTION retry_dead_letters(projection text, OUT folded bigint, OUT still_set_aside bigint)
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
CREATE OR REPLACE FUNCTION discard_dead_letters(of_projection text) RETURNS bigint LANGUAGE sql SET search_path = public, pg_temp AS $$
    WITH discarded AS (DELETE FROM dead_letters WHERE projection = of_projection AND stage = 'live' RETURNING 1)
    SELECT count(*) FROM discarded
$$;

-- Folds what is filled for verification to the very position of the live projection, which stands still until the end
-- of the transaction, with what that has taken up again meanwhile. Answers that position, or null while either is being folded.
CREATE OR REPLACE FUNCTION align_projection(projection text) RETURNS bigint LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
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

-- So many names of a kind are kept of a session, or of a probe's pings, and one more to tell that there are others. Nobody comes to
-- a hundred; a program that walks through all names would have each event write all of them again.
CREATE OR REPLACE FUNCTION most_names() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 100 $$;

-- Where a name is among all names, from 0 to 1: as if by chance, always the same.
CREATE OR REPLACE FUNCTION name_hash(name text) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (('x' || left(md5(name), 8))::bit(32)::bigint + 1) / 4294967296.0::float8
$$;

-- The names to keep, each once and sorted. Where there are too many, those with the least hashes: the same ones in whatever
-- order they come, and a fair sample.
CREATE OR REPLACE FUNCTION kept_names(names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY(
        SELECT k.name
        FROM (SELECT n.name FROM unnest(names) n (name) GROUP BY n.name ORDER BY name_hash(n.name), n.name LIMIT most_names() + 1) k
        ORDER BY k.name
    )
$$;

-- About how many names there are beyond the most that are told: of hashes that are spread evenly the one after the most_names()
-- least is where it is because there are so many. One in three estimates is off by more than a tenth.
CREATE OR REPLACE FUNCTION names_beyond(kept text[]) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(kept) <= most_names() THEN 0 ELSE (
        SELECT greatest(1, least(round(most_names() / max(name_hash(k.name))) - most_names(), 1000000000))::integer
        FROM unnest(kept) k (name)
    ) END
$$;

-- Whoever folds is alone (advance_projection), so rows are looked for and then updated or inserted: half the cost of
-- ON CONFLICT. NOT IN, not NOT EXISTS: its set is hashed however few rows are expected.
CREATE OR REPLACE FUNCTION fold_popularity(after_position bigint, to_position bigint) RETURNS bigint
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

-- The names of a session, and those that come to it: nearly always none that is new, or one that finds its place.
CREATE OR REPLACE FUNCTION names_with(known text[], is_sorted boolean, names text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN is_sorted AND names IS NULL THEN coalesce(known, '{}')
        WHEN is_sorted AND cardinality(names) < 10 AND names <@ known THEN known
        WHEN is_sorted AND cardinality(names) = 1 AND coalesce(cardinality(known), 0) <= most_names() THEN
            known[:width_bucket(names[1], coalesce(known, '{}'))] || names || known[width_bucket(names[1], coalesce(known, '{}')) + 1:]
        ELSE kept_names(known || names)
    END
$$;

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
            visitors = CASE WHEN h.visitors @> excluded.visitors THEN h.visitors ELSE ARRAY(
                SELECT DISTINCT v FROM unnest(h.visitors || excluded.visitors) v ORDER BY v LIMIT 1000) END
        RETURNING 1
    )
    SELECT count(*) FROM written
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
    RETURN dropped;
END $$;

DROP FUNCTION sorted_names(text[]);
DROP INDEX sessions_by_start;
CREATE INDEX sessions_by_start ON sessions (started_at, visitor) INCLUDE (bot, role);

-- What is there already, as it is folded from now on.
UPDATE sessions SET
    probes = kept_names(probes), controls = kept_names(controls), tools_left = kept_names(tools_left)
WHERE greatest(cardinality(probes), cardinality(controls), cardinality(tools_left)) > most_names() + 1;
WITH cut AS (
    UPDATE sessions s SET products = kept_names(o.products)
    FROM (SELECT visitor, started_at, products FROM sessions WHERE cardinality(products) > most_names() + 1) o
    WHERE (s.visitor, s.started_at) = (o.visitor, o.started_at)
    RETURNING s.started_at, s.bot, s.role, s.products AS kept, o.products AS known
), fewer AS (
    SELECT date_bin('1 hour', c.started_at, '2001-01-01T00:00:00Z') AS hour, d.product, c.bot, c.role, count(*) AS number
    FROM cut c CROSS JOIN LATERAL (SELECT unnest(c.known) EXCEPT SELECT unnest(c.kept)) d (product)
    GROUP BY 1, 2, 3, 4
), none_left AS (
    DELETE FROM session_counts n USING fewer f
    WHERE (n.hour, n.product, n.bot, n.role) = (f.hour, f.product, f.bot, f.role) AND n.sessions = f.number
)
UPDATE session_counts n SET sessions = n.sessions - f.number FROM fewer f
WHERE (n.hour, n.product, n.bot, n.role) = (f.hour, f.product, f.bot, f.role) AND n.sessions > f.number;
UPDATE catalogue SET pings = kept_names(pings) WHERE cardinality(pings) > most_names() + 1;
UPDATE projections SET generation = gen_random_uuid() WHERE stage = 'live' AND name IN ('catalogue', 'sessions');

REVOKE ALL ON FUNCTION most_dead_letters, advance_projection, fold_ranges, fold_range, set_aside, refold_dead_letters,
    retry_dead_letters, discard_dead_letters, most_names, name_hash, kept_names, names_beyond FROM PUBLIC;
GRANT SELECT ON dead_letters TO usage_server, usage_reader;
GRANT EXECUTE ON FUNCTION advance_projection TO usage_server;
GRANT EXECUTE ON FUNCTION most_names, name_hash, names_beyond TO usage_server, usage_builder, usage_reader, usage_projections;

-- Events that erased somebody lose the name that they had, which is the one change ever made to an event. Those that are
-- recorded meanwhile come last, under the log's lock; calls under way, which still write the name, find the trigger.
CREATE FUNCTION unname_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.visitor := NULL;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION unname_erased FROM PUBLIC;
DO $$
DECLARE
    seen bigint := last_position();
BEGIN
    UPDATE event_log SET visitor = NULL WHERE type = 'visitor_erased' AND visitor IS NOT NULL AND position <= seen;
    PERFORM lock_event_log();
    CREATE TRIGGER erasures_name_nobody BEFORE INSERT ON event_log
    FOR EACH ROW WHEN (NEW.type = 'visitor_erased' AND NEW.visitor IS NOT NULL) EXECUTE FUNCTION unname_erased();
    UPDATE event_log SET visitor = NULL WHERE type = 'visitor_erased' AND visitor IS NOT NULL AND position > seen;
END $$;

-- Builds merge their rows with those of earlier ones. A build of before deleted all others of its probe, so that no two rows are of
-- the same combination. Builders of schema 2 store rows as before, and complete_build() merges them.
-- Merges the rows that a build inserted in this transaction with those of earlier builds, as GLAM's MERGE does: they take the place
-- of rows of the same combination, and no other row goes. Answers how many the build inserted. Joined by hashes whatever the planner
-- expects of rows that were just inserted: by a nested loop a large probe would be compared row by row.
CREATE OR REPLACE FUNCTION merge_rows(of_build builds) RETURNS integer
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
CREATE FUNCTION attempt_seconds(held builds) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT round(greatest(0, extract(epoch FROM current_instant() - e.occurred_at)), 3) FROM event_log e
    WHERE e.data ->> 'build_id' = held.build_id::text AND e.type LIKE 'build\_%' AND e.type = 'build_started'
    ORDER BY e.position DESC LIMIT 1
$$;

-- d: the rows that the worker inserted in this transaction are merged with those of earlier builds.
-- e: without any, the probe was built and too few clients sent it. Answers how many rows the build has.
CREATE OR REPLACE FUNCTION complete_build(of_build uuid, of_attempt integer, bytes_read bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    stored integer := merge_rows(held);
BEGIN
    PERFORM end_build(
        held, CASE WHEN stored > 0 THEN 'succeeded' ELSE 'no_data' END, NULL, bytes_read, stored, record_transition(
            held, CASE WHEN stored > 0 THEN 'build_succeeded' ELSE 'build_found_no_data' END, held.worker,
            jsonb_build_object('attempt', of_attempt, 'bytes', bytes_read, 'rows', stored, 'seconds', attempt_seconds(held))));
    PERFORM count_bytes(bytes_read);
    RETURN stored;
END $$;

REVOKE ALL ON FUNCTION merge_rows, attempt_seconds FROM PUBLIC;

-- What the server is asked for and has no rows of is built.
-- How many builds each visitor's misses started on a day: those of today alone are kept. The visitor is a hash that is made anew each
-- day, which leads to nobody; requests without one share theirs.
CREATE TABLE miss_allowances (
    day     date    NOT NULL,
    visitor uuid    NOT NULL,
    builds  integer NOT NULL,
    PRIMARY KEY (day, visitor)
);

-- a, for a request of data that found nothing: joins the build that is under way, else creates one if the visitor's misses have
-- started fewer than `most_builds` today and fewer than `most_bytes` were read ('limited'). One that failed or was cancelled since
-- the last ETL is not begun again ('over').
CREATE OR REPLACE FUNCTION request_missed_build(
    for_product text, for_channel text, for_probe text, by_visitor uuid, most_builds integer, most_bytes bigint,
    by_source text DEFAULT session_user, in_trace text DEFAULT NULL,
    OUT outcome text, OUT build_id uuid, OUT metric_type text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    today date := utc_day(current_instant());
    hashed uuid := md5(format('%s %s', today, by_visitor))::uuid;
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

REVOKE ALL ON FUNCTION request_missed_build FROM PUBLIC;
GRANT EXECUTE ON FUNCTION request_missed_build TO usage_server;

-- What builds cost, for lists that are made by it and for what nobody needs: of all builds that the log holds.
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

INSERT INTO projections (name, version, tables, settings, position)
VALUES ('build_costs', 1, '{build_costs}', '{}', whole_from() - 1);
GRANT SELECT ON build_costs TO usage_server, usage_builder, usage_reader, usage_projections;
REVOKE ALL ON FUNCTION fold_build_costs FROM PUBLIC;

-- Revisions of builds, of events that only programs of version 3 take.
CREATE TABLE build_revisions (
    product    text NOT NULL,
    channel    text NOT NULL,
    build_hour text NOT NULL,  -- YYYYMMDDHH, as in probe_rows
    build_id   text NOT NULL COLLATE "C",
    revision   text NOT NULL COLLATE "C",
    PRIMARY KEY (product, channel, build_hour)
);
GRANT SELECT ON build_revisions TO usage_server, usage_builder, usage_reader, usage_projections;

-- What people read of a probe is kept with it.
ALTER TABLE catalogue ADD COLUMN details jsonb, ADD COLUMN detailed_at timestamptz;
CREATE FUNCTION probe_details(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(data)
    WHERE key IN ('description', 'owners', 'expires', 'disabled', 'link') AND value <> 'null'
$$;
CREATE OR REPLACE FUNCTION fold_catalogue(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
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
REVOKE ALL ON FUNCTION probe_details FROM PUBLIC;

-- Releases can be retracted. Of those whose events are gone, only the first instant is known.
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
INSERT INTO release_publications (product, channel, version, published_at, stated_at)
SELECT product, channel, (data ->> 'version')::integer, occurred_at, occurred_at FROM event_log
WHERE type = 'release_published'
  AND position <= (SELECT p.position FROM projections p WHERE p.name = 'releases' AND p.stage = 'live')
  AND position NOT IN (SELECT d.position FROM dead_letters d WHERE d.projection = 'releases' AND d.stage = 'live')
UNION SELECT product, channel, version, published_at, published_at FROM releases;
CREATE OR REPLACE FUNCTION fold_releases(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
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
UPDATE projections SET tables = '{build_revisions,release_publications,releases}' WHERE name = 'releases';
GRANT SELECT ON release_publications TO usage_server, usage_builder, usage_reader, usage_projections;

-- What other ways to choose would have caught.
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

GRANT SELECT ON policy_nights, policy_fillings TO usage_server, usage_builder, usage_reader, usage_projections;
REVOKE ALL ON FUNCTION claim_policy_filling, store_policy_nights, end_policy_filling FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_policy_filling, store_policy_nights, end_policy_filling TO usage_server;

-- A registration that names no ping is of `metrics`, as it is documented; it was kept as null.
UPDATE catalogue SET pings = kept_names(array_replace(pings, NULL, 'metrics')) WHERE array_position(pings, NULL) IS NOT NULL;
