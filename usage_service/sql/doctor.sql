-- situation: the version of PostgreSQL as a number, whether it is a standby, whether a transaction here may only read, and its clock.
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean, clock_timestamp();
