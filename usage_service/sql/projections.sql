-- hold: keeps the tables from being swapped until the end of the transaction.
LOCK TABLE catalogue, popularity_days, popularity_visitors, releases, sessions IN ACCESS SHARE MODE;

-- marks: how far the named live projections are, and when their rows last changed.
SELECT name, position, generation, changed_at FROM projections WHERE stage = 'live' AND name = ANY ($1) ORDER BY name;

-- live: the names of the projections to keep up with the log.
SELECT name FROM projections WHERE stage = 'live' ORDER BY name;

-- statuses: all that is known of each.
SELECT name, stage, version, settings, position, behind, behind_seconds, updated_at, failed_at, failed_after, error
FROM projection_status ORDER BY name, stage;

-- advance: folds the next batch. $1 name, $2 positions at most, $3 stage.
SELECT was_at, now_at, log_end FROM advance_projection($1, $2, $3);

-- fail: remembers what cannot be folded. $1 name, $2 stage, $3 the position before it, $4 why.
SELECT fail_projection($1, $2, $3, $4);

-- position: of one projection. $1 name, $2 stage.
SELECT position FROM projections WHERE name = $1 AND stage = $2;

-- settings: of one projection. $1 name, $2 stage.
SELECT settings FROM projections WHERE name = $1 AND stage = $2;
