-- The datasets and tables that clients made, and the jobs that wrote, each recorded by the transaction that wrote.
CREATE SCHEMA IF NOT EXISTS tables.about;
CREATE TABLE IF NOT EXISTS tables.about.datasets (project VARCHAR, dataset VARCHAR, resource VARCHAR);
CREATE TABLE IF NOT EXISTS tables.about.tables (
    project VARCHAR, dataset VARCHAR, name VARCHAR, definition VARCHAR, created TIMESTAMPTZ
);
CREATE TABLE IF NOT EXISTS tables.about.jobs (
    project VARCHAR, job_id VARCHAR, created DOUBLE, record VARCHAR, PRIMARY KEY (project, job_id)
);
