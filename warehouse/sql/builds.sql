-- The builds, numbered from 0, each with the seconds until the next one.
CREATE OR REPLACE TABLE builds (
    build BIGINT, made TIMESTAMPTZ, app_build VARCHAR, versions MAP(VARCHAR, VARCHAR), seconds BIGINT,
    regressed BOOLEAN
);
