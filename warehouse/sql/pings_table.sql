-- A table of pings as BigQuery has it.
CREATE SCHEMA IF NOT EXISTS "{{schema}}";
CREATE TABLE "{{schema}}"."{{table}}" (
    submission_timestamp TIMESTAMPTZ,
    sample_id BIGINT,
    client_info STRUCT(
        client_id VARCHAR, os VARCHAR, app_build VARCHAR, app_channel VARCHAR, app_display_version VARCHAR
    ),
    metadata STRUCT(isp STRUCT("name" VARCHAR)),
    metrics {{metrics_type}}
);
