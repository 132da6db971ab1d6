-- works with: 2
-- Only additions: programs of version 2 call what is there as before.
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
CREATE OR REPLACE FUNCTION put_back_events(exported event_log[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' AS $$
DECLARE
    put_back bigint;
BEGIN
    LOCK TABLE dropped_events IN SHARE ROW EXCLUSIVE MODE;  -- nobody begins to fill a projection meanwhile
    IF EXISTS (
        SELECT FROM unnest(exported) x
        WHERE fingerprint_event(x) IS DISTINCT FROM coalesce(
            (SELECT d.fingerprint FROM dropped_events d WHERE d.event_id = x.event_id),
            (SELECT fingerprint_event(e) FROM event_log e WHERE e.event_id = x.event_id))
    ) THEN
        RAISE EXCEPTION 'the export holds events that are not what was dropped' USING ERRCODE = 'UB006';
    END IF;
    WITH known AS (
        DELETE FROM dropped_events d USING unnest(exported) x WHERE d.event_id = x.event_id RETURNING d.event_id
    )
    INSERT INTO event_log SELECT x.* FROM unnest(exported) x JOIN known k ON k.event_id = x.event_id;
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
CREATE OR REPLACE FUNCTION fold_projection(of_projection projections, to_position bigint) RETURNS bigint
-- The search path is put back on return. Batches are large: their sorts are to fit into memory. Folds ask the planner not to read
-- all of a table, at prices so high that each would be compiled first, which takes longer than it.
LANGUAGE plpgsql SET search_path = public, pg_temp SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    after_position bigint := of_projection.position;
    written text;
    settings_before text;
BEGIN
    IF to_position <= after_position THEN
        RETURN after_position;
    END IF;
    -- Rows and checkpoint are lost together or not at all, and what is lost is folded again: no need to wait for a disk.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM set_config('usage.projection', of_projection.settings::text, true);
    -- A few events are folded sooner than the statement is planned: its plan for small batches is kept by the session.
    PERFORM set_config('plan_cache_mode', CASE WHEN to_position - after_position < 5000 THEN 'force_generic_plan' ELSE 'auto' END, true);
    PERFORM set_config('search_path', concat_ws(', ', quote_ident(of_projection.home), (
        SELECT quote_ident(p.home) FROM public.projections p WHERE p.name = of_projection.name AND p.stage = 'live'
    ), 'public', 'pg_temp'), true);
    IF of_projection.definition IS NULL THEN
        EXECUTE format('SELECT %I($1, $2)', 'fold_' || of_projection.name) INTO written USING after_position, to_position;
    ELSE
        settings_before := session_settings(current_setting('search_path'));
        written := run_fold('fold_' || of_projection.name, after_position, to_position);
        PERFORM public.require_confinement(settings_before, pg_catalog.current_setting('search_path'));
    END IF;
    UPDATE public.projections p SET
        position = to_position, updated_at = clock_timestamp(), failed_at = NULL, failed_after = NULL, error = NULL,
        changed_at = CASE written WHEN '0' THEN p.changed_at ELSE to_position END
    WHERE p.name = of_projection.name AND p.stage = of_projection.stage;
    RETURN to_position;
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
    IF entry.metric_type IS NULL THEN
        outcome := 'unknown';
        RETURN;
    ELSIF NOT coalesce((SELECT m.buildable FROM metric_types m WHERE m.metric_type = entry.metric_type), false) THEN
        outcome := 'unbuildable';
        RETURN;
    ELSIF EXISTS (SELECT FROM hidden_by(for_product, for_probe)) OR EXISTS (
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
