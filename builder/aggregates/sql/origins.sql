-- Where pings come from: each ping type, system, version and build, as sent and as counted, judged once and not for
-- each ping. origin: a number for those of one build as sent; unit: for those of one build hour; place: of all builds.
-- client_weight: how many clients a client stands for. Only Windows is sampled, and only on release since 119.
SELECT
  *,
  IF(sampled, @windows_weight, 1) AS client_weight,
  DENSE_RANK() OVER (ORDER BY ping_type, os, version, build_id) AS origin,
  DENSE_RANK() OVER (ORDER BY ping_type, os, version, build_hour) AS unit,
  DENSE_RANK() OVER (ORDER BY ping_type, os) AS place
FROM (
  SELECT
    *,
    COALESCE(os = 'Windows' AND version >= 119, FALSE) AS sampled
  FROM (
    SELECT
      ping_type,
      sent_os,
      sent_version,
      build_id,
      NULLIF(REPLACE(sent_os, @nul, ''), '*') AS os,
      {{version}} AS version,
      {{build_hour}} AS build_hour
    FROM (
      SELECT DISTINCT
        ping_type, sent_os, sent_version, build_id
      FROM
        received
    )
  )
)
WHERE
  version BETWEEN @first_version AND @last_version
  AND SAFE_CAST(
    CONCAT(SUBSTR(build_hour, 1, 4), '-', SUBSTR(build_hour, 5, 2), '-', SUBSTR(build_hour, 7, 2)) AS DATE
  ) BETWEEN @first_build_day AND @last_build_day
