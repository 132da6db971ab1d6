-- ping: asks a server whether it is there.
SELECT 1;

-- backend_pid: the process that answers. Behind a pooler it is another one than the connection was made to.
SELECT pg_backend_pid();

-- negative_backend_pid: the same, told from the statement above by its sign.
SELECT -pg_backend_pid();

-- make_commits_durable: what is acknowledged is durable, whatever the default of the database or the role; a stronger setting
-- stays.
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local');

-- plan_for_values: has the statements of the transaction planned for the values that they get, each time. SET takes no snapshot.
SET LOCAL plan_cache_mode = force_custom_plan;

-- login: the login role, and of its session: whether it has the rights of the role $1 (null: needs none), whether its commits
-- are not durable, and whether its statements are not bounded.
SELECT current_user, $1::text IS NULL OR pg_has_role($1, 'USAGE'),
       current_setting('synchronous_commit') IN ('off', 'local'), current_setting('statement_timeout') = '0';
