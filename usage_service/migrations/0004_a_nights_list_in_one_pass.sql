-- works with: 2
-- What programs of versions 2 and 3 call has the same names and answers: they go on beside those of version 4.

-- Nights.
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

ALTER TABLE builds ADD COLUMN shared_job uuid REFERENCES shared_jobs;
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

CREATE FUNCTION build_to_join(for_product text, for_channel text, for_probe text) RETURNS builds LANGUAGE sql AS $$
    SELECT * FROM builds b
    WHERE b.product = for_product AND b.channel = for_channel AND b.probe = for_probe
      AND (b.state IN ('queued', 'running')
           OR b.state IN ('succeeded', 'no_data') AND b.finished_at >= fresh_since(for_product))
    ORDER BY b.finished_at DESC NULLS FIRST LIMIT 1
$$;

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

CREATE OR REPLACE FUNCTION complete_build(of_build uuid, of_attempt integer, bytes_read bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    stored integer := succeed_build(held, bytes_read, jsonb_build_object('seconds', attempt_seconds(held)));
BEGIN
    PERFORM count_bytes(bytes_read);
    RETURN stored;
END $$;

CREATE OR REPLACE FUNCTION retry_build(of_build uuid, by_source text DEFAULT session_user) RETURNS text
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

CREATE OR REPLACE FUNCTION claim_build(by_worker text, lease interval, most integer DEFAULT 1) RETURNS SETOF builds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY
    UPDATE builds b SET
        state = 'running', attempt = b.attempt + 1, worker = by_worker, lease_until = current_instant() + lease,
        started_at = coalesce(b.started_at, current_instant()), stage = 'started', percent = 0, bytes = NULL,
        error = NULL, shared_job = NULL,
        log_position = record_transition(b, 'build_started', by_worker, jsonb_build_object('attempt', b.attempt + 1))
    WHERE b.build_id = ANY (ARRAY(
        SELECT q.build_id FROM builds q
        WHERE q.state = 'queued' AND q.not_before <= current_instant()
          AND NOT EXISTS (
              SELECT FROM shared_jobs j
              WHERE j.job_id = q.shared_job AND (j.state = 'running' OR j.state = 'queued' AND q.prefetched))
        ORDER BY q.prefetched, q.not_before LIMIT most FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING b.*;
END $$;

CREATE OR REPLACE FUNCTION bytes_left_today(most_bytes bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT greatest(0, most_bytes - coalesce((SELECT d.bytes FROM warehouse_days d WHERE d.day = utc_day(current_instant())), 0)
                       - coalesce((SELECT sum(b.bytes) FROM builds b WHERE b.state = 'running'), 0)
                       - coalesce((SELECT sum(j.bytes) FROM shared_jobs j WHERE j.state = 'running'), 0))::bigint
$$;

CREATE OR REPLACE FUNCTION claim_orphaned_jobs(within interval) RETURNS SETOF uuid
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

CREATE OR REPLACE FUNCTION mark_jobs_stopped(of_build uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE builds SET stop_jobs_at = NULL WHERE build_id = of_build;
    UPDATE shared_jobs SET stop_jobs_at = NULL WHERE job_id = of_build
$$;

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

CREATE FUNCTION heartbeat_night(of_night uuid, of_attempt integer, lease interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
BEGIN
    UPDATE nights n SET lease_until = current_instant() + lease WHERE n.night_id = held.night_id;
END $$;

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

CREATE FUNCTION hand_back_night(of_night uuid, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held nights := hold_night(of_night, of_attempt);
BEGIN
    UPDATE nights n SET worker = NULL, lease_until = NULL, max_attempts = n.max_attempts + 1 WHERE n.night_id = held.night_id;
    PERFORM pg_notify('build_requested', of_night::text);
END $$;

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

CREATE FUNCTION lock_shared_builds(of_job shared_jobs) RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM builds b WHERE b.shared_job = of_job.job_id AND b.state = 'queued' ORDER BY b.build_id FOR NO KEY UPDATE;
    RETURN ARRAY(
        SELECT b.build_id FROM builds b WHERE b.shared_job = of_job.job_id AND b.state = 'queued'
        ORDER BY array_position(of_job.builds, b.build_id));
END $$;

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

CREATE FUNCTION fail_shared_build(of_job uuid, of_attempt integer, of_build uuid, error_code text, error_message text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    member builds := start_shared_build(hold_shared_job(of_job, of_attempt), of_build);
BEGIN
    IF member.build_id IS NOT NULL THEN
        PERFORM give_up_attempt(member, jsonb_build_object('code', error_code, 'message', error_message), NULL);
    END IF;
END $$;

CREATE FUNCTION complete_shared_job(of_job uuid, of_attempt integer, bytes_read bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
BEGIN
    held.bytes := bytes_read;
    PERFORM end_shared_job(held, 'done', NULL);
END $$;

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
        PERFORM count_shared_bytes(held.bytes);
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

CREATE FUNCTION end_shared_job(held shared_jobs, new_state text, why jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shared_jobs j SET
        state = new_state, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why, bytes = held.bytes,
        finished_at = current_instant()
    WHERE j.job_id = held.job_id;
    PERFORM count_shared_bytes(held.bytes);
    PERFORM pg_notify('night_changed', held.night_id::text), pg_notify('build_requested', held.job_id::text);
END $$;

CREATE FUNCTION count_shared_bytes(read bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF read > 0 THEN
        PERFORM begin_append();
        PERFORM count_bytes(read);
    END IF;
END $$;

CREATE FUNCTION hand_back_shared_job(of_job uuid, of_attempt integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held shared_jobs := hold_shared_job(of_job, of_attempt);
BEGIN
    UPDATE shared_jobs j SET
        state = 'queued', max_attempts = j.max_attempts + 1, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL,
        bytes = NULL, not_before = current_instant()
    WHERE j.job_id = held.job_id;
    PERFORM count_shared_bytes(held.bytes);
    PERFORM pg_notify('build_requested', of_job::text);
END $$;

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

REVOKE ALL ON FUNCTION build_to_join, building_refusal, cancel_night, claim_night, claim_shared_jobs, complete_planning, complete_shared_build, complete_shared_builds, complete_shared_job, count_shared_bytes, end_nights, end_shared_job, expire_shared_lease, fail_planning, fail_shared_build, fail_shared_job, give_up_shared_job, hand_back_night, hand_back_shared_job, heartbeat_night, heartbeat_shared_job, hold_night, hold_shared_job, lock_shared_builds, night_outcome, queue_shared_job, record_night_end, request_night, split_shared_job, start_shared_build, succeed_build
    FROM PUBLIC;
GRANT SELECT ON nights, shared_jobs, night_probes, night_totals TO usage_server, usage_builder, usage_reader, usage_projections;
GRANT EXECUTE ON FUNCTION request_night, cancel_night TO usage_server;
GRANT EXECUTE ON FUNCTION claim_night, heartbeat_night, queue_shared_job, complete_planning, fail_planning, hand_back_night, claim_shared_jobs,
    heartbeat_shared_job, complete_shared_build, complete_shared_builds, fail_shared_build, complete_shared_job, fail_shared_job,
    hand_back_shared_job, expire_shared_lease, end_nights
    TO usage_builder;

-- Appending.
CREATE FUNCTION append_new_events(
    event_ids uuid[], kinds smallint[], occurred timestamptz[], persons smallint[], probes text[], payloads jsonb[], digests uuid[],
    types text[], schema_versions smallint[], products text[], channels text[], sources text[], lookups uuid[], epochs integer[]
) RETURNS bigint
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

REVOKE ALL ON FUNCTION append_new_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_new_events TO usage_server;

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
CREATE INDEX IF NOT EXISTS builds_to_deliver ON builds (product, channel, log_position) WHERE state = 'succeeded';

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
GRANT SELECT ON sink_channels, sink_status TO usage_server, usage_builder, usage_reader, usage_projections;
REVOKE ALL ON FUNCTION deliveries_of, claim_delivery, hold_delivery, renew_delivery, plan_delivery, complete_delivery, fail_delivery, hand_back_delivery,
    deliver_again FROM PUBLIC;
GRANT EXECUTE ON FUNCTION deliveries_of TO usage_server;
GRANT EXECUTE ON FUNCTION claim_delivery, renew_delivery, plan_delivery, complete_delivery, fail_delivery, hand_back_delivery TO usage_builder;

-- Reports of the ETL, whose builds are locked before the log.
-- Cancels the queued builds of probes that the ETL has built, where they were asked for before it had.
-- Those that run go on, because the warehouse bills for what it has begun. Answers how many ended.
CREATE OR REPLACE FUNCTION cancel_builds_done_by_etl(
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
