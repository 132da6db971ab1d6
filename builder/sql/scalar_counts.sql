-- Scalars, second pass: distinct clients in each bucket, over every roll-up of ping type, system and build.
{{scalar_clients}},
bucketed AS (
  SELECT
    client_id, ping_type, os, version, build_hour, client_agg_type,
    (SELECT MAX(bound) FROM UNNEST(@buckets) AS bound WHERE bound <= value) AS bucket
  FROM
    aggregates
),
combinations AS (
  SELECT
    version,
    IF(any_ping, '*', ping_type) AS ping_type,
    IF(any_os, '*', os) AS os,
    IF(any_build, '*', build_hour) AS build_hour,
    client_agg_type, bucket, client_id
  FROM
    bucketed
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_ping
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_os
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_build
  WHERE
    any_os OR os IS NOT NULL
)
SELECT
  version, ping_type, os, build_hour, client_agg_type, bucket,
  COUNT(DISTINCT client_id) AS clients
FROM
  combinations
GROUP BY
  version, ping_type, os, build_hour, client_agg_type, bucket
