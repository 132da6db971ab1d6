-- The catalogue of the tables, which are each in a schema "project.dataset", and the options they were seeded with.
CREATE SCHEMA about;
CREATE TABLE about.tables (project VARCHAR, dataset VARCHAR, name VARCHAR, partition_column VARCHAR);
CREATE TABLE about.leaf_bytes (
    project VARCHAR, dataset VARCHAR, name VARCHAR, leaf VARCHAR[], day DATE, bytes BIGINT
);
CREATE TABLE about.seeded (description VARCHAR);
