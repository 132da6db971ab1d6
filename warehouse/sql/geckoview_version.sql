-- The version of Gecko in each hour's builds of Fenix nightly, whose pings do not tell it.
CREATE SCHEMA IF NOT EXISTS "{{schema}}";
CREATE TABLE "{{schema}}"."{{table}}" (build_hour TIMESTAMPTZ, geckoview_major_version BIGINT);
INSERT INTO "{{schema}}"."{{table}}"
SELECT unnest($1::TIMESTAMPTZ[]), unnest($2::BIGINT[]);
