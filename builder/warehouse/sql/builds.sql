-- The builds, numbered from 0, each with the seconds until the next one.
CREATE TABLE builds (
    build BIGINT, made TIMESTAMPTZ, app_build VARCHAR, nightly VARCHAR, beta VARCHAR, seconds BIGINT, regressed BOOLEAN
);
