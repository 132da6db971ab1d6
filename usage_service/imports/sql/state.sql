-- make: how often each event without an id of its own was read so far, up to which line everything was sent (with what
-- became of it, and an event that the log must have then), and the refused lines. Keys begin with the second of
-- their events, so that those of a file in the order of time are neighbours whatever its size.
CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reached (
    only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL, stats BLOB NOT NULL, sample BLOB
);
CREATE TABLE IF NOT EXISTS refused (number INTEGER PRIMARY KEY, line BLOB NOT NULL);

-- begin_anew: forgets an import that is not gone on with.
DELETE FROM seen;
DELETE FROM reached;
DELETE FROM refused;

-- seen: how often an event was read.
SELECT number FROM seen WHERE key = ?;

-- set_seen: keeps how often an event was read.
INSERT INTO seen VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET number = excluded.number;

-- reached: up to where everything was sent.
SELECT position, stats, sample FROM reached;

-- set_reached: keeps up to where everything was sent; the event stays where there is no newer one.
INSERT INTO reached VALUES (1, ?, ?, ?)
ON CONFLICT (only) DO UPDATE
SET position = excluded.position, stats = excluded.stats, sample = coalesce(excluded.sample, sample);

-- refused: the refused lines, in the order of the file.
SELECT line FROM refused ORDER BY number;

-- add_refused: keeps a refused line.
INSERT INTO refused (line) VALUES (?);
