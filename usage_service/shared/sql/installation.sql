-- is_installed: whether the database has a table of schema versions. Not by to_regclass(): that may remember, within a transaction
-- that has waited for the lock, that there was none.
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = 'schema_version'
);

-- installed: the version of the schema, and the oldest one whose programs work with it; zeros where the table is empty.
SELECT coalesce(max(version), 0), coalesce(max(works_with), 0) FROM schema_version;

-- bound: bounds the waits of this transaction. A session that waits for a lock on a table makes all others wait behind it: not
-- for long, and again later.
SELECT set_config('lock_timeout', '2s', true), set_config('statement_timeout', '1h', true);

-- lock: waits until no other program installs or migrates the schema; $1 names the lock.
SELECT pg_advisory_xact_lock($1);

-- record: stores that the schema is at version $1, with which programs of version $2 and later work.
INSERT INTO schema_version (version, works_with) VALUES ($1, $2);
