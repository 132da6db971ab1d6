-- A table of a client's, empty, in place of the one that had its name.
CREATE SCHEMA IF NOT EXISTS tables."{{schema}}";
CREATE OR REPLACE TABLE {{table}} ({{columns}});
