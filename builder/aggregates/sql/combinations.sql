combinations AS (  -- those that a place and a build count in, by number; all builds of a version are build -version
  SELECT
    *,
    DENSE_RANK() OVER (ORDER BY version, ping_type, os, build_hour) AS combination
  FROM (
    SELECT
      place, build, version, build_hour, client_weight,
      IF(any_ping, '*', ping_type) AS ping_type,
      IF(any_os, '*', os) AS os
    FROM (
      SELECT DISTINCT
        place, build, version, build_hour, ping_type, os, client_weight
      FROM
        units
      UNION ALL
      SELECT DISTINCT
        place, -version AS build, version, '*' AS build_hour, ping_type, os, client_weight
      FROM
        units
    )
    CROSS JOIN UNNEST(@any_ping) AS any_ping
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_os
    WHERE
      any_os
      OR os IS NOT NULL
  )
),
names AS (
  SELECT DISTINCT
    combination, version, ping_type, os, build_hour
  FROM
    combinations
),
