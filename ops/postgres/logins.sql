-- Run once by the image of PostgreSQL in a new database: who logs in, each with a password, rights and bounds of their own.
-- They have no synchronous_commit: lock_event_log() pins it in each transaction that appends events, by whichever role, pooler or
-- ALTER SYSTEM. It leaves a stronger one, such as remote_apply of the cluster, which a setting of the role would lower to `on`.
\set ON_ERROR_STOP on
\getenv server_password SERVER_PASSWORD
\getenv builder_password BUILDER_PASSWORD
\getenv reader_password READER_PASSWORD
CREATE ROLE usage_server NOLOGIN;
CREATE ROLE usage_builder NOLOGIN;
CREATE ROLE usage_reader NOLOGIN;
CREATE ROLE glam_server LOGIN PASSWORD :'server_password' IN ROLE usage_server;
CREATE ROLE glam_builder LOGIN PASSWORD :'builder_password' IN ROLE usage_builder;
CREATE ROLE glam_reader LOGIN PASSWORD :'reader_password' IN ROLE usage_reader;
ALTER ROLE glam_server SET statement_timeout = '30s';
ALTER ROLE glam_server SET lock_timeout = '10s';
ALTER ROLE glam_server SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE glam_server SET jit = off;
ALTER ROLE glam_builder SET statement_timeout = '30s';
ALTER ROLE glam_builder SET lock_timeout = '10s';
ALTER ROLE glam_builder SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE glam_builder SET jit = off;
ALTER ROLE glam_reader SET default_transaction_read_only = on;
ALTER ROLE glam_reader SET statement_timeout = '10min';
ALTER ROLE glam_reader SET lock_timeout = '10s';
ALTER ROLE glam_reader SET idle_in_transaction_session_timeout = '1min';
