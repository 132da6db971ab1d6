-- hold: keeps the tables from being swapped until the end of the transaction.
LOCK TABLE build_costs, build_revisions, catalogue, journey_events, popularity_returns, popularity_series, popularity_views, popularity_visitors,
    probe_hours, release_publications, releases, session_counts, sessions IN ACCESS SHARE MODE;

-- states: how far the live projections $1 are, where their rows last changed, and how often the log lost or got back old events.
SELECT name, position, generation, changed_at, (SELECT number FROM retention_changes) AS retention
FROM projections WHERE stage = 'live' AND name = ANY ($1) ORDER BY name;

-- positions: of each live projection.
SELECT name, position FROM projections WHERE stage = 'live';

-- live: the names of the projections to keep up with the log, and which were added.
SELECT name, definition IS NOT NULL AS is_added FROM projections WHERE stage = 'live' ORDER BY name;

-- statuses: all that is known of each.
SELECT name, stage, version, settings, position, behind, behind_seconds, updated_at, failed_at, failed_after, error, set_aside,
       dead_letters
FROM projection_status ORDER BY name, stage;

-- advance: folds the next batch. $1 name, $2 positions at most, $3 stage.
SELECT was_at, now_at, log_end, set_aside FROM advance_projection($1, $2, $3);

-- advance_together: folds the next batch of several live projections; how far each is. $1 names, $2 positions at most.
SELECT name, was_at, now_at, log_end, set_aside FROM advance_together($1, $2);

-- set_aside: how many events a projection has set aside. $1 name, $2 stage.
SELECT count(*) FROM dead_letters WHERE projection = $1 AND stage = $2;

-- first_dead_letter: the first event that a projection has set aside. $1 name, $2 stage.
SELECT position, error FROM dead_letters WHERE projection = $1 AND stage = $2 ORDER BY position LIMIT 1;

-- retry: takes up what a live projection has set aside. $1 name.
SELECT folded, still_set_aside FROM retry_dead_letters($1);

-- discard: gives up what a live projection has set aside. $1 name.
SELECT discard_dead_letters($1);

-- fail: remembers what cannot be folded. $1 name, $2 stage, $3 the position before it, $4 why.
SELECT fail_projection($1, $2, $3, $4);

-- position: of one projection. $1 name, $2 stage.
SELECT position FROM projections WHERE name = $1 AND stage = $2;

-- begin: begins to fill beside the live one; its generation. $1 name, $2 stage, $3 settings or null for the live one's, $4 the position
-- up to which it is not filled from the log.
SELECT begin_filling($1, $2, $3, $4);

-- define: begins to fill one that is defined by statements; its generation. $1 name, $2 stage, $3 the statements.
SELECT define_projection($1, $2, $3);

-- definition: the statements that a projection was added with. $1 name, $2 stage.
SELECT definition FROM projections WHERE name = $1 AND stage = $2;

-- begun: what a projection is filled with, if it is not what was asked for. $1 name, $2 its generation, $3 settings.
SELECT format('settings %s', b.settings) FROM projections b
WHERE b.name = $1 AND b.generation = $2 AND b.settings <> $3
UNION ALL
SELECT 'another file' FROM projections b JOIN projections live ON live.name = b.name AND live.stage = 'live'
WHERE b.name = $1 AND b.generation = $2 AND b.definition <> live.definition
LIMIT 1;

-- swapped: where the live projection was when it took over, if it is of this generation. $1 name, $2 generation.
SELECT position FROM projections WHERE name = $1 AND stage = 'live' AND generation = $2;

-- drop: a filling, or a projection that was added. $1 name, $2 stage.
SELECT drop_projection($1, $2);

-- swap: puts the rebuilt in the place of the live one; its position, or null when it has to be tried again. $1 name,
-- $2 the most positions to fold in the same transaction.
SELECT swap_projection($1, $2);

-- align: brings what is filled for verification to the position of the live one; null when it has to be tried again.
SELECT align_projection($1);

-- hashes: of each table, live and filled for verification. $1 name.
SELECT t.name, l.number AS live_rows, l.hash AS live_hash, v.number AS rebuilt_rows, v.hash AS rebuilt_hash
FROM projections live
JOIN projections filled ON filled.name = live.name AND filled.stage = 'verify'
CROSS JOIN LATERAL unnest(live.tables) AS t (name)
CROSS JOIN LATERAL hash_table(live.home, t.name) l
CROSS JOIN LATERAL hash_table(filled.home, t.name) v
WHERE live.name = $1 AND live.stage = 'live'
ORDER BY t.name;

-- differences: rows that one table has and the other not. $1 name, $2 table, $3 how many of each at most.
SELECT only_in, row_text FROM differing_rows($1, $2, $3);

-- settings: of one projection. $1 name, $2 stage.
SELECT settings FROM projections WHERE name = $1 AND stage = $2;
