-- The origins of pings: each ping type, system, version and build, as sent and as counted, so that they are parsed once
-- and not for each ping. origin: a number for each build as sent; unit: a number for each build hour; place: a number
-- for each ping type and system, of all versions and builds; build: a number for each version and build hour, of all
-- places. client_weight: how many clients a client stands for. Only Windows clients are sampled, and only since version
-- 119.
-- The window is looked at last, or each ping's build would be parsed for it.
SELECT
  *
FROM (
  SELECT
    *,
    IF(sampled, @windows_weight, 1) AS client_weight,
    DENSE_RANK() OVER (ORDER BY ping_type, os, version, build_id) AS origin,
    DENSE_RANK() OVER (ORDER BY ping_type, os, version, build_hour) AS unit,
    DENSE_RANK() OVER (ORDER BY ping_type, os) AS place,
    DENSE_RANK() OVER (ORDER BY version, build_hour) AS build
  FROM (
    SELECT
      *,
      COALESCE(os = 'Windows' AND version >= 119, FALSE) AS sampled
    FROM (
      SELECT
        ping_type, sent_os, sent_version, build_id, os, build_hour,
        {{version}} AS version
      FROM (
        SELECT
          ping_type, sent_os, sent_version, build_id,
          NULLIF(REPLACE(sent_os, @nul, ''), '*') AS os,
          {{build_hour}} AS build_hour
        FROM (
          SELECT DISTINCT
            ping_type, sent_os, sent_version, build_id
          FROM
            received
        )
      )
      {{build_versions}}
    )
  )
)
WHERE
  version BETWEEN @first_version AND @last_version
  AND SAFE_CAST(
    CONCAT(SUBSTR(build_hour, 1, 4), '-', SUBSTR(build_hour, 5, 2), '-', SUBSTR(build_hour, 7, 2)) AS DATE
  ) IS NOT NULL
  AND build_hour > @after_build_hour
  AND build_hour < @before_build_hour
