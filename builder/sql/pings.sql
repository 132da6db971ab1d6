-- The pings of one type that count: the columns every probe needs, and the probe's own as `value`.
-- client_weight: how many clients the client stands for. Only Windows is sampled, and only on release since 119.
SELECT
  client_id,
  '{{ping}}' AS ping_type,
  submission_day,
  os,
  version,
  build_id,
  build_hour,
  IF(sampled, @windows_weight, 1) AS client_weight,
  value
FROM (
  SELECT
    *,
    COALESCE(os = 'Windows' AND version >= 119, FALSE) AS sampled
  FROM (
    SELECT
      client_info.client_id AS client_id,
      DATE(submission_timestamp) AS submission_day,
      -- A system of that name would be taken for the roll-up.
      NULLIF(REPLACE(client_info.os, @nul, ''), '*') AS os,
      {{version}} AS version,
      client_info.app_build AS build_id,
      {{build_hour}} AS build_hour,
      sample_id,
      {{value}} AS value
    FROM
      `{{table}}`
    WHERE
      submission_timestamp >= @since
      AND submission_timestamp < @until
      AND client_info.client_id IS NOT NULL
      AND client_info.app_channel = @channel
      AND COALESCE(LOWER(metadata.isp.name), '') != 'browserstack'
  )
)
WHERE
  version BETWEEN @first_version AND @last_version
  AND (NOT sampled OR sample_id < @windows_sample_ids)
  AND SAFE_CAST(
    CONCAT(SUBSTR(build_hour, 1, 4), '-', SUBSTR(build_hour, 5, 2), '-', SUBSTR(build_hour, 7, 2)) AS DATE
  ) BETWEEN @first_build_day AND @last_build_day
