-- What the warehouse knows of its tables, beside the tables themselves (each in a schema "project.dataset").
CREATE SCHEMA about;
CREATE TABLE about.tables (project VARCHAR, dataset VARCHAR, name VARCHAR, partition_column VARCHAR);
CREATE TABLE about.leaf_bytes (
    project VARCHAR, dataset VARCHAR, name VARCHAR, leaf VARCHAR[], day DATE, bytes BIGINT
);
CREATE TABLE about.seeded (description VARCHAR);
