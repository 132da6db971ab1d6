-- works with: 2
-- What programs of versions 2 to 5 call has the same names and answers: they go on beside those of version 6.

-- Lists of builds that are over in some state are read by it.
CREATE INDEX builds_by_state ON builds (state, requested_at DESC, build_id) WHERE state NOT IN ('queued', 'running');

-- The index has the name of the glossary.
ALTER INDEX builds_with_jobs_left RENAME TO builds_with_orphaned_jobs;

-- Each added projection has a role of its own, so that none can write what is another's. Who folds ends first.
SELECT count(*) FROM (SELECT FROM projections p WHERE p.definition IS NOT NULL ORDER BY p.name, p.stage FOR NO KEY UPDATE) held;
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

-- Defines a projection by statements that create its tables and fold_<name>(bigint, bigint), to be filled from the
-- beginning, or finds it begun with the same: answers its generation. They run, and the fold will, as the projection's role:
-- it may read the log and the projections that are there, and write its own tables.
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
CREATE OR REPLACE FUNCTION drop_projection(projection text, at_stage text) RETURNS boolean
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

DROP FUNCTION run_definition, run_fold, require_confinement(text, text);
REVOKE ALL ON FUNCTION make_projection_role, require_confinement FROM PUBLIC;

-- Those that are there become their roles'. A sequence of a column's own goes with its table.
DO $$
DECLARE
    added projections;
    owned record;
BEGIN
    FOR added IN SELECT * FROM projections p WHERE p.definition IS NOT NULL LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', added.home, make_projection_role(added.name));
        FOR owned IN
            SELECT i.type, i.identity FROM pg_shdepend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
            WHERE d.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
              AND d.refclassid = 'pg_authid'::regclass AND d.refobjid = 'usage_projections'::regrole AND d.deptype = 'o'
              AND i.schema = added.home AND NOT EXISTS (
                  SELECT FROM pg_depend c
                  WHERE c.classid = 'pg_class'::regclass AND c.objid = d.objid AND i.type = 'sequence' AND c.deptype IN ('a', 'i'))
        LOOP
            EXECUTE format('ALTER %s %s OWNER TO %I', replace(owned.type, 'statistics object', 'statistics'), owned.identity,
                           make_projection_role(added.name));
        END LOOP;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO usage_projections', added.home);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO usage_projections', added.home);
    END LOOP;
END $$;
