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
            -- The event that erases somebody does not name them: its time is known to whoever asked for it.
            SELECT j.*, CASE WHEN j.type <> 'visitor_erased' THEN v.pseudonym END AS visitor
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
    SELECT g.position, g.event_id, g.type, g.schema_version, g.occurred_at, g.recorded_at,
           CASE WHEN g.type <> 'visitor_erased' THEN g.visitor END,  -- older exports name who was erased
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

-- Events that erased somebody lose the name that they had, which is the one change ever made to an event. Those that are recorded
-- meanwhile as before come last, under the log's lock.
DO $$
DECLARE
    seen bigint := last_position();
BEGIN
    UPDATE event_log SET visitor = NULL WHERE type = 'visitor_erased' AND visitor IS NOT NULL AND position <= seen;
    PERFORM lock_event_log();
    UPDATE event_log SET visitor = NULL WHERE type = 'visitor_erased' AND visitor IS NOT NULL AND position > seen;
END $$;

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
