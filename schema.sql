-- The usage service and the probe builder: data model and every state change.
--
-- event_log        what happened: immutable, in the order of `position`, written only by append_events()
-- projections      how far each projection has folded the log; advance_projection() folds the next batch
--   catalogue        every probe known (fold_catalogue)
--   popularity_*     views and visitors a probe and day (fold_popularity)
--   releases         which version a channel had when (fold_releases)
--   sessions         a visitor's events without a pause of 30 minutes (fold_sessions)
-- builds           one row a request to compute a probe; changed only by the lettered transitions below, each of
--                  which appends its event and updates the row in one transaction
-- probe_rows       the aggregates of the probes that were built
--
-- Whatever the programs do, psql can do: SELECT * FROM request_build('fog', 'nightly', 'gc_ms');
-- Roles: usage_server (aiohttp server), usage_builder (builder), usage_reader (analysts). None may change the log.
-- Runs on PostgreSQL 15 and later. Installed once, under a lock, by whichever program starts first; never edited in place.

CREATE TABLE schema_version (
    version      integer     PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
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
BEGIN
    PERFORM lock_event_log();
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

-- Puts exported events back at their positions, after all that the log holds: into an empty log, or on from where an
-- earlier call stopped. What is there already is passed over; other events there are an error (UB002). Visitors are
-- the pseudonyms of the export, which nothing links to anybody any more. Answers how many events are new.
CREATE FUNCTION restore_events(
    positions bigint[], event_ids uuid[], types text[], schema_versions smallint[], occurred timestamptz[],
    recorded timestamptz[], visitors uuid[], products text[], channels text[], probes text[], sources text[],
    payloads jsonb[], digests uuid[]
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    log_end bigint;
    restored bigint;
BEGIN
    PERFORM lock_event_log();
    log_end := last_position();
    IF EXISTS (
        SELECT FROM unnest(positions, event_ids, digests) AS g (position, event_id, digest)
        LEFT JOIN event_log e ON e.position = g.position
        WHERE g.position <= log_end AND (e.event_id, e.digest) IS DISTINCT FROM (g.event_id, g.digest)
    ) THEN
        RAISE EXCEPTION 'the log holds other events up to position %', log_end USING ERRCODE = 'UB002';
    END IF;
    INSERT INTO event_log (position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product,
                           channel, probe, source, data, digest)
    SELECT g.* FROM unnest(positions, event_ids, types, schema_versions, occurred, recorded, visitors, products, channels,
                           probes, sources, payloads, digests) AS g (position)
    WHERE g.position > log_end;
    GET DIAGNOSTICS restored = ROW_COUNT;
    PERFORM setval('event_position', greatest(log_end, (SELECT max(p) FROM unnest(positions) AS p)));
    RETURN restored;
END $$;

CREATE FUNCTION lock_event_log() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(x'676c616d'::bigint)  -- 'glam'
$$;

CREATE FUNCTION last_position() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(position), 0) FROM event_log
$$;

-- One event written by this service itself, within the transition that it records.
CREATE FUNCTION append_own_event(
    event_type text, event_product text, event_channel text, event_probe text, event_source text, payload jsonb
) RETURNS bigint LANGUAGE sql AS $$
    SELECT log_position FROM append_events(
        ARRAY[gen_random_uuid()], ARRAY[event_type], ARRAY[1::smallint], ARRAY[current_instant()], ARRAY[NULL::uuid],
        ARRAY[NULL::integer], ARRAY[event_product], ARRAY[event_channel], ARRAY[event_probe], ARRAY[event_source], ARRAY[payload],
        ARRAY[md5(payload::text)::uuid])
$$;

---------------------------------------------------------------------------------------------------------------------
-- Projections: pure functions of the log, folded a batch of positions at a time, checkpoint and rows in one
-- transaction. Each fold gives the same rows for the same events in whatever order or batches they arrive.

CREATE TABLE projections (
    name        text        PRIMARY KEY,
    version     integer     NOT NULL,
    position    bigint      NOT NULL DEFAULT 0,  -- every event up to here is folded
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO projections (name, version) VALUES
    ('catalogue', 1), ('popularity', 1), ('releases', 1), ('sessions', 1);

-- Folds the next batch of a projection: its position before and after, and the end of the log. At most one caller
-- at a time folds a projection; the others return at once, unmoved.
CREATE FUNCTION advance_projection(
    projection text, batch_size integer, OUT was_at bigint, OUT now_at bigint, OUT log_end bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    SELECT p.position INTO was_at FROM projections p WHERE p.name = projection;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no projection %', projection USING ERRCODE = 'undefined_object';
    END IF;
    log_end := last_position();
    now_at := was_at;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('projection ' || projection, 0)) THEN
        RETURN;
    END IF;
    SELECT p.position INTO was_at FROM projections p WHERE p.name = projection;  -- again, now that nobody moves it
    now_at := greatest(was_at, least(was_at + batch_size, log_end));
    IF now_at > was_at THEN
        EXECUTE format('SELECT %I($1, $2)', 'fold_' || projection) USING was_at, now_at;
        UPDATE projections p SET position = now_at, updated_at = clock_timestamp() WHERE p.name = projection;
    END IF;
END $$;

-- Catalogue -------------------------------------------------------------------------------------------------------

-- What a probe's columns can hold, and whether the builder of this version can aggregate it.
CREATE TABLE metric_types (
    metric_type text    PRIMARY KEY,
    buildable   boolean NOT NULL
);
INSERT INTO metric_types VALUES
    ('counter', true), ('timing_distribution', true),
    ('boolean', false), ('quantity', false), ('timespan', false), ('labeled_counter', false),
    ('labeled_boolean', false), ('dual_labeled_counter', false), ('memory_distribution', false),
    ('custom_distribution', false), ('labeled_timing_distribution', false), ('labeled_memory_distribution', false),
    ('labeled_custom_distribution', false),
    ('event', false), ('string', false), ('string_list', false), ('labeled_string', false), ('uuid', false),
    ('url', false), ('datetime', false), ('rate', false), ('text', false), ('object', false),
    ('labeled_quantity', false);

CREATE TABLE catalogue (
    product       text NOT NULL,
    probe         text NOT NULL,
    metric_type   text,         -- null: built or retired, but never registered
    pings         text[] NOT NULL,  -- every ping that it was ever registered for
    registered_at timestamptz,  -- first registered
    described_at  timestamptz,  -- last registered: the type is from then
    retired_at    timestamptz,
    built_at      timestamptz,  -- last built by the ETL, any channel
    PRIMARY KEY (product, probe)
);
CREATE INDEX catalogue_names ON catalogue USING gin (probe gin_trgm_ops);

-- The latest registration says the type (at the same instant the larger one, so that the order of arrival does not
-- matter); a probe is sent in every ping that it was ever registered for.
CREATE FUNCTION fold_catalogue(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO catalogue AS c (product, probe, metric_type, pings, registered_at, described_at, retired_at, built_at)
    SELECT product, probe,
           (array_agg(data ->> 'type' ORDER BY occurred_at DESC, data ->> 'type' DESC)
                FILTER (WHERE type = 'probe_registered'))[1],
           coalesce(array_agg(DISTINCT data ->> 'ping') FILTER (WHERE type = 'probe_registered'), '{}'),
           min(occurred_at) FILTER (WHERE type = 'probe_registered'),
           max(occurred_at) FILTER (WHERE type = 'probe_registered'),
           max(occurred_at) FILTER (WHERE type = 'probe_retired'),
           max(occurred_at) FILTER (WHERE type = 'probe_built')
    FROM event_log
    WHERE position > after_position AND position <= to_position
      AND type IN ('probe_registered', 'probe_retired', 'probe_built')
    GROUP BY product, probe
    ON CONFLICT (product, probe) DO UPDATE SET
        metric_type = CASE
            WHEN c.described_at IS NULL
              OR (excluded.described_at, excluded.metric_type) > (c.described_at, c.metric_type)
            THEN excluded.metric_type ELSE c.metric_type END,
        pings = ARRAY(SELECT unnest(c.pings) UNION SELECT unnest(excluded.pings) ORDER BY 1),
        registered_at = least(c.registered_at, excluded.registered_at),
        described_at = greatest(c.described_at, excluded.described_at),
        retired_at = greatest(c.retired_at, excluded.retired_at),
        built_at = greatest(c.built_at, excluded.built_at)
$$;

-- Popularity ------------------------------------------------------------------------------------------------------

CREATE TABLE popularity_days (
    product text    NOT NULL,
    day     date    NOT NULL,
    probe   text    NOT NULL,
    channel text    NOT NULL,  -- '' where the event named none
    bot     boolean NOT NULL,
    found   bigint  NOT NULL,  -- views of data that was there
    missing bigint  NOT NULL,  -- views of a probe that was not built
    PRIMARY KEY (product, day, probe, channel, bot)
);

CREATE TABLE popularity_visitors (
    product text    NOT NULL,
    day     date    NOT NULL,
    probe   text    NOT NULL,
    channel text    NOT NULL,
    bot     boolean NOT NULL,
    visitor uuid    NOT NULL,
    PRIMARY KEY (product, day, probe, channel, bot, visitor)
);

CREATE FUNCTION fold_popularity(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO popularity_days AS d (product, day, probe, channel, bot, found, missing)
    SELECT product, utc_day(occurred_at), probe, coalesce(channel, ''), coalesce((data ->> 'bot')::boolean, false),
           count(*) FILTER (WHERE (data ->> 'found')::boolean),
           count(*) FILTER (WHERE NOT (data ->> 'found')::boolean)
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'probe_viewed'
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (product, day, probe, channel, bot) DO UPDATE SET
        found = d.found + excluded.found, missing = d.missing + excluded.missing;

    INSERT INTO popularity_visitors (product, day, probe, channel, bot, visitor)
    SELECT DISTINCT product, utc_day(occurred_at), probe, coalesce(channel, ''),
           coalesce((data ->> 'bot')::boolean, false), visitor
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'probe_viewed' AND visitor IS NOT NULL
    ON CONFLICT DO NOTHING
$$;

-- Releases --------------------------------------------------------------------------------------------------------

CREATE TABLE releases (
    product      text        NOT NULL,
    channel      text        NOT NULL,
    version      integer     NOT NULL,
    published_at timestamptz NOT NULL,  -- first published
    PRIMARY KEY (product, channel, version)
);

CREATE FUNCTION fold_releases(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO releases AS r (product, channel, version, published_at)
    SELECT product, channel, (data ->> 'version')::integer, min(occurred_at)
    FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'release_published'
    GROUP BY 1, 2, 3
    ON CONFLICT (product, channel, version) DO UPDATE SET
        published_at = least(r.published_at, excluded.published_at)
$$;

-- Sessions --------------------------------------------------------------------------------------------------------

-- A page view's place in its session; event_id decides between page views at the same instant.
CREATE TYPE page_mark AS (occurred_at timestamptz, event_id uuid, page text, referrer text);

CREATE TABLE sessions (
    visitor    uuid        NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    events     bigint      NOT NULL,
    bot        boolean     NOT NULL,
    entry      page_mark,           -- first page viewed
    exit       page_mark,           -- last page viewed
    products   text[]      NOT NULL,
    probes     text[]      NOT NULL,
    controls   text[]      NOT NULL,
    tools_left text[]      NOT NULL,  -- tools that a link was followed to
    PRIMARY KEY (visitor, started_at)
);
CREATE INDEX sessions_by_start ON sessions (started_at);

CREATE FUNCTION session_gap() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '30 minutes' $$;

-- The events of the batch and the sessions they could touch are pieces; pieces less than a gap apart are one session.
-- Adding an event can extend or merge sessions, never split one, so nothing but the sessions themselves is read again.
CREATE FUNCTION fold_sessions(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    WITH batch AS MATERIALIZED (
        SELECT * FROM event_log
        WHERE position > after_position AND position <= to_position AND visitor IS NOT NULL
          AND (type IN ('page_viewed', 'probe_searched', 'probe_viewed', 'control_changed', 'link_followed')
               OR type LIKE 'x\_%')
    ), reach AS (
        SELECT visitor, min(occurred_at) - session_gap() AS since, max(occurred_at) + session_gap() AS until
        FROM batch GROUP BY visitor
    ), touched AS (
        DELETE FROM sessions s USING reach r
        WHERE s.visitor = r.visitor AND s.ended_at > r.since AND s.started_at < r.until
        RETURNING s.*
    ), pieces AS (
        SELECT * FROM touched
        UNION ALL
        SELECT visitor, occurred_at, occurred_at, 1, coalesce((data ->> 'bot')::boolean, false),
               p.mark, p.mark,
               CASE WHEN product IS NULL THEN '{}' ELSE ARRAY[product] END,
               CASE type WHEN 'probe_viewed' THEN ARRAY[probe] ELSE '{}' END,
               CASE type WHEN 'control_changed' THEN ARRAY[data ->> 'control'] ELSE '{}' END,
               CASE type WHEN 'link_followed' THEN ARRAY[data ->> 'tool'] ELSE '{}' END
        FROM batch
        CROSS JOIN LATERAL (
            SELECT CASE type WHEN 'page_viewed' THEN
                ROW(occurred_at, event_id, data ->> 'page', data ->> 'referrer')::page_mark END AS mark
        ) p
    ), starts AS (
        SELECT *, started_at >= session_gap() + max(ended_at) OVER (
            PARTITION BY visitor ORDER BY started_at, ended_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS after_pause
        FROM pieces
    ), numbered AS MATERIALIZED (
        SELECT *, count(*) FILTER (WHERE after_pause) OVER (
            PARTITION BY visitor ORDER BY started_at, ended_at
        ) AS session
        FROM starts
    ), used AS (
        SELECT visitor, session,
               array_agg(DISTINCT name ORDER BY name) FILTER (WHERE kind = 'product') AS products,
               array_agg(DISTINCT name ORDER BY name) FILTER (WHERE kind = 'probe') AS probes,
               array_agg(DISTINCT name ORDER BY name) FILTER (WHERE kind = 'control') AS controls,
               array_agg(DISTINCT name ORDER BY name) FILTER (WHERE kind = 'tool') AS tools_left
        FROM numbered
        CROSS JOIN LATERAL (
            SELECT 'product' AS kind, unnest(products) AS name
            UNION ALL SELECT 'probe', unnest(probes)
            UNION ALL SELECT 'control', unnest(controls)
            UNION ALL SELECT 'tool', unnest(tools_left)
        ) n
        GROUP BY visitor, session
    )
    INSERT INTO sessions
    SELECT n.visitor, min(n.started_at), max(n.ended_at), sum(n.events), bool_or(n.bot),
           (array_agg(n.entry ORDER BY (n.entry).occurred_at, (n.entry).event_id)
                FILTER (WHERE n.entry IS DISTINCT FROM NULL))[1],
           (array_agg(n.exit ORDER BY (n.exit).occurred_at DESC, (n.exit).event_id DESC)
                FILTER (WHERE n.exit IS DISTINCT FROM NULL))[1],
           coalesce(u.products, '{}'), coalesce(u.probes, '{}'), coalesce(u.controls, '{}'),
           coalesce(u.tools_left, '{}')
    FROM numbered n
    LEFT JOIN used u USING (visitor, session)
    GROUP BY n.visitor, n.session, u.products, u.probes, u.controls, u.tools_left
$$;

---------------------------------------------------------------------------------------------------------------------
-- Builds: asynchronous request-reply
--
--                    +------- f retry, g lease lost -------+
--                    v                                     |
--   a request --> queued -------- b claim ----------> running --- c progress, heartbeat --+
--                                                      | | | |  ^                         |
--                                                      | | | |  +-------------------------+
--                          succeeded <--- d succeed ---+ | +--- h fail --> failed
--                                                        |                   ^
--                            no_data <--- e no data -----+       g, f with no attempt left
--
-- A claim raises `attempt`; every later call of that worker names it and raises lease_lost (UB001) when the build has
-- moved on, so a stale worker changes nothing.

CREATE TABLE builds (
    build_id     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    product      text        NOT NULL,
    channel      text        NOT NULL,
    probe        text        NOT NULL,
    metric_type  text        NOT NULL REFERENCES metric_types,
    pings        text[]      NOT NULL,
    state        text        NOT NULL DEFAULT 'queued',
    attempt      integer     NOT NULL DEFAULT 0,
    max_attempts integer     NOT NULL DEFAULT 5,
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
    log_position bigint      NOT NULL, -- of its last event
    CONSTRAINT state_is_known CHECK (state IN ('queued', 'running', 'succeeded', 'no_data', 'failed', 'cancelled')),
    CONSTRAINT running_has_a_lease CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT over_has_an_end CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL)),
    CONSTRAINT failed_has_an_error CHECK (state <> 'failed' OR error IS NOT NULL),
    CONSTRAINT succeeded_has_rows CHECK ((state = 'succeeded') = (rows IS NOT NULL AND rows > 0)),
    CONSTRAINT attempts_are_bounded CHECK (attempt BETWEEN 0 AND max_attempts),
    CONSTRAINT percent_is_a_share CHECK (percent BETWEEN 0 AND 100)
);
-- Coalescing: at most one build of a probe is under way.
CREATE UNIQUE INDEX one_build_under_way ON builds (product, channel, probe) WHERE state IN ('queued', 'running');
CREATE INDEX builds_to_claim ON builds (not_before) WHERE state = 'queued';
CREATE INDEX builds_leased ON builds (lease_until) WHERE state = 'running';
CREATE INDEX builds_of_a_probe ON builds (product, channel, probe, requested_at DESC);

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

-- Use counters have an ETL of their own; the two others are too large for any.
CREATE FUNCTION is_excluded(probe text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT probe ~ '^use[._]?counter' OR probe IN ('sqlite_store_open', 'sqlite_store_query')
$$;

-- a: asks for a probe. outcome: 'created'; 'pending' (one is under way); 'fresh' (built today, UTC, with or without
-- data); 'unknown' (not in the catalogue); 'unbuildable' (of a type that is not aggregated); 'excluded' (by name).
CREATE FUNCTION request_build(
    for_product text, for_channel text, for_probe text, by_source text DEFAULT session_user,
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
    ELSIF is_excluded(for_probe) THEN
        outcome := 'excluded';
        RETURN;
    END IF;
    LOOP
        SELECT * INTO found_build FROM builds b
        WHERE b.product = for_product AND b.channel = for_channel AND b.probe = for_probe
          AND (b.state IN ('queued', 'running')
               OR b.state IN ('succeeded', 'no_data') AND utc_day(b.finished_at) = utc_day(current_instant()))
        ORDER BY b.finished_at DESC NULLS FIRST LIMIT 1;
        IF FOUND THEN
            outcome := CASE WHEN found_build.finished_at IS NULL THEN 'pending' ELSE 'fresh' END;
            build_id := found_build.build_id;
            RETURN;
        END IF;
        INSERT INTO builds AS b (product, channel, probe, metric_type, pings, not_before, requested_at, log_position)
        VALUES (for_product, for_channel, for_probe, entry.metric_type, entry.pings, current_instant(),
                current_instant(), 0)
        ON CONFLICT (product, channel, probe) WHERE state IN ('queued', 'running') DO NOTHING
        RETURNING * INTO found_build;
        IF FOUND THEN
            outcome := 'created';
            build_id := found_build.build_id;
            PERFORM record_transition(found_build, 'build_requested', by_source, '{}');
            PERFORM pg_notify('build_requested', found_build.build_id::text);
            RETURN;
        END IF;  -- else another session has just created it: look again
    END LOOP;
END $$;

-- b: hands the longest waiting build to a worker, or no row.
CREATE FUNCTION claim_build(by_worker text, lease interval) RETURNS SETOF builds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    claimed builds;
BEGIN
    UPDATE builds b SET
        state = 'running', attempt = b.attempt + 1, worker = by_worker, lease_until = current_instant() + lease,
        started_at = coalesce(b.started_at, current_instant()), stage = 'started', percent = 0, bytes = NULL,
        error = NULL
    WHERE b.build_id = (
        SELECT q.build_id FROM builds q
        WHERE q.state = 'queued' AND q.not_before <= current_instant()
        ORDER BY q.not_before LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING * INTO claimed;
    IF FOUND THEN
        claimed.log_position := record_transition(
            claimed, 'build_started', by_worker, jsonb_build_object('attempt', claimed.attempt));
        RETURN NEXT claimed;
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
        percent = coalesce(new_percent, b.percent), bytes = coalesce(new_bytes, b.bytes)
    WHERE b.build_id = of_build;
    IF new_stage IS NOT NULL THEN
        PERFORM record_transition(held, 'build_progressed', held.worker, jsonb_strip_nulls(jsonb_build_object(
            'attempt', of_attempt, 'stage', new_stage, 'percent', new_percent, 'bytes', new_bytes)));
    END IF;
END $$;

-- d: the rows that the worker inserted in this transaction replace those of earlier builds.
-- e: without any, the probe was built and too few clients sent it. Answers how many rows there are.
CREATE FUNCTION complete_build(of_build uuid, of_attempt integer, bytes_read bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held builds := hold_build(of_build, of_attempt);
    stored integer;
BEGIN
    DELETE FROM probe_rows r
    WHERE r.product = held.product AND r.channel = held.channel AND r.probe = held.probe AND r.built_by <> of_build;
    SELECT count(*) INTO stored FROM probe_rows r
    WHERE r.product = held.product AND r.channel = held.channel AND r.probe = held.probe;
    PERFORM end_build(held, CASE WHEN stored > 0 THEN 'succeeded' ELSE 'no_data' END, NULL, bytes_read, stored);
    PERFORM record_transition(
        held, CASE WHEN stored > 0 THEN 'build_succeeded' ELSE 'build_found_no_data' END, held.worker,
        jsonb_build_object('attempt', of_attempt, 'bytes', bytes_read, 'rows', stored));
    RETURN stored;
END $$;

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
                ORDER BY b.build_id FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM give_up_attempt(
            lost, jsonb_build_object('code', 'lease_lost', 'message', 'its builder was not heard of any more'),
            interval '0');
        number := number + 1;
    END LOOP;
    RETURN number;
END $$;

-- Locks a running build for the worker that holds this attempt.
CREATE FUNCTION hold_build(of_build uuid, of_attempt integer) RETURNS builds LANGUAGE plpgsql AS $$
DECLARE
    held builds;
BEGIN
    SELECT * INTO held FROM builds b
    WHERE b.build_id = of_build AND b.attempt = of_attempt AND b.state = 'running' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % of build % is no longer running', of_attempt, of_build USING ERRCODE = 'UB001';
    END IF;
    RETURN held;
END $$;

CREATE FUNCTION give_up_attempt(held builds, why jsonb, retry_in interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    again boolean := retry_in IS NOT NULL AND held.attempt < held.max_attempts;
BEGIN
    IF again THEN
        UPDATE builds b SET
            state = 'queued', worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why,
            not_before = current_instant() + retry_in
        WHERE b.build_id = held.build_id;
    ELSE
        PERFORM end_build(held, 'failed', why, held.bytes, NULL);
    END IF;
    PERFORM record_transition(held, 'build_failed', held.worker, why || jsonb_build_object(
        'attempt', held.attempt, 'final', NOT again));
    RETURN CASE WHEN again THEN 'queued' ELSE 'failed' END;
END $$;

CREATE FUNCTION end_build(held builds, new_state text, why jsonb, bytes_read bigint, stored integer) RETURNS void
LANGUAGE sql AS $$
    UPDATE builds SET
        state = new_state, worker = NULL, lease_until = NULL, stage = NULL, percent = NULL, error = why,
        bytes = bytes_read, rows = nullif(stored, 0), finished_at = current_instant()
    WHERE build_id = held.build_id
$$;

CREATE FUNCTION record_transition(of_build builds, event_type text, by_source text, details jsonb) RETURNS bigint
LANGUAGE sql AS $$
    UPDATE builds SET log_position = append_own_event(
        event_type, of_build.product, of_build.channel, of_build.probe, by_source,
        details || jsonb_build_object('build_id', of_build.build_id))
    WHERE build_id = of_build.build_id
    RETURNING log_position
$$;

---------------------------------------------------------------------------------------------------------------------
-- Privileges: the log grows only through append_events() and the transitions, which run as their owner.

DO $$
DECLARE
    role_name text;
BEGIN
    -- Roles belong to the whole cluster: another database may have made them, at this very moment too.
    PERFORM pg_advisory_xact_lock(hashtextextended('usage roles', 0));
    FOREACH role_name IN ARRAY ARRAY['usage_server', 'usage_builder', 'usage_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        IF NOT pg_has_role(current_user, role_name, 'MEMBER') THEN
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

GRANT USAGE ON SCHEMA public TO usage_server, usage_builder, usage_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO usage_server, usage_builder, usage_reader;
GRANT EXECUTE ON FUNCTION current_instant, utc_day, last_position, session_gap
    TO usage_server, usage_builder, usage_reader;
REVOKE SELECT ON visitor_keys FROM usage_server, usage_builder, usage_reader;
GRANT EXECUTE ON FUNCTION append_events, restore_events, forget_visitors, advance_projection, request_build TO usage_server;
GRANT EXECUTE ON FUNCTION claim_build, heartbeat_build, complete_build, fail_build, expire_leases TO usage_builder;
GRANT INSERT ON probe_rows TO usage_builder;
