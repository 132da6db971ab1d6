-- exchange: ends the builds $1 without rows at their attempts $2, which read the bytes $3, and gives up to $6 others to the worker $4,
-- for a lease of $5, in one transaction: those that it has ended (`no_data`), and those that it gives (`running`), each with the
-- seconds that it could have been claimed for, and with the newest version that was released on its channel.
SELECT b.*, extract(epoch FROM current_instant() - b.not_before)::float8 AS waited_seconds,
       (SELECT max(r.version) FROM releases r WHERE r.product = b.product AND r.channel = b.channel) AS latest_version
FROM exchange_builds($1, $2, $3, $4, $5, $6) b;

-- expire_leases: queues the builds again whose lease has run out; how many.
SELECT expire_leases();

-- heartbeat: renews the lease $3 of the build $1 at its attempt $2, and notes its stage $4, its percent $5 and the bytes read
-- so far $6 (null: as before).
SELECT heartbeat_build($1, $2, $3, $4, $5, $6);

-- renew_lease: renews the lease $3 of the build $1 at its attempt $2.
SELECT heartbeat_build($1, $2, $3);

-- account: counts the $5 bytes of the job $4, which the build $1 is to begin or to adopt at its attempt $2, of $7 a day; $6 of the attempt
-- so far. Renews the lease $3. How many are left where these are too many. $7 null: the job is over and has read so many.
SELECT account_build_job($1, $2, $3, $4, $5, $6, $7);

-- bytes_left_today: how many bytes may still be read today, of $1 a day.
SELECT bytes_left_today($1);

-- begin: opens the transaction that stores rows, in one message. A builder that freezes in it keeps the next attempt, which
-- stores the same rows, no longer than these 5 seconds.
BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s';

-- name_complete: keeps the build $1, its attempt $2 and the bytes read $3 for `complete`, which takes no parameters.
SELECT set_config('builder.build', $1, true), set_config('builder.attempt', $2, true),
       set_config('builder.bytes', $3, true);

-- complete: ends the build of `name_complete` and commits. Two statements in one message on purpose: the first takes the
-- log's lock, and a builder that freezes between two messages would hold it. Such a message takes no parameters.
SELECT complete_build(current_setting('builder.build')::uuid, current_setting('builder.attempt')::integer,
                      current_setting('builder.bytes')::bigint);
COMMIT;

-- name_complete_shared: keeps the shared job $1, its attempt $2, the build $3 and its share of the bytes $4 for `complete_shared`.
SELECT set_config('builder.job', $1, true), set_config('builder.attempt', $2, true), set_config('builder.build', $3, true),
       set_config('builder.bytes', $4, true);

-- complete_shared: ends the build of `name_complete_shared` and commits, in one message as `complete` does.
SELECT complete_shared_build(current_setting('builder.job')::uuid, current_setting('builder.attempt')::integer,
                             current_setting('builder.build')::uuid, current_setting('builder.bytes')::bigint);
COMMIT;

-- rollback: leaves the transaction that `begin` opened, with nothing stored.
ROLLBACK;

-- stored_rows: how many rows the attempt $2 has stored as the result of the build $1; nothing where it has not ended it.
SELECT coalesce(rows, 0) FROM builds WHERE build_id = $1 AND attempt = $2 AND state IN ('succeeded', 'no_data');

-- fail: ends the attempt $2 of the build $1 with the error code $3 and message $4, to be tried again after $5 (null: never);
-- the build's state then.
SELECT fail_build($1, $2, $3, $4, $5);

-- hand_back: queues the build $1 again, whose attempt $2 does not count.
SELECT hand_back_build($1, $2);

-- claim_orphaned_jobs: cancelled builds whose jobs in the warehouse nobody has stopped yet; for $1 no other worker gets them.
SELECT claim_orphaned_jobs($1);

-- mark_jobs_stopped: notes that the cancelled build $1 has no jobs in the warehouse any more.
SELECT mark_jobs_stopped($1);

-- notify: sends $2 on the channel $1.
SELECT pg_notify($1, $2);

-- note_builder: notes that the builder $1 is alive.
SELECT note_builder($1);
