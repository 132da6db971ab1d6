-- The clients, numbered from 0; `place` is the number of their system.
CREATE OR REPLACE TABLE clients AS
SELECT *, list_position($6::VARCHAR[], os) - 1 AS place
FROM (
    SELECT generate_subscripts($1::VARCHAR[], 1) - 1 AS client, unnest($1::VARCHAR[]) AS client_id,
           unnest($2::BIGINT[]) AS sample_id, unnest($3::VARCHAR[]) AS os, unnest($4::VARCHAR[]) AS app_channel,
           unnest($5::VARCHAR[]) AS provider
);
