-- The pings of one type that count: the columns every probe needs, and the probe's own as `value`.
-- client_weight: how many clients the client stands for. Only Windows is sampled, and only on release since 119.
SELECT
  client_id,
  '{{ping}}' AS ping_type,
  submission_day,
  os,
  version,
  build_id,
  SUBSTR(build_id, 1, 10) AS build_hour,
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
      NULLIF(client_info.os, '*') AS os,
      COALESCE(SAFE_CAST(REGEXP_EXTRACT(client_info.app_display_version, '^[^.]*') AS INT64), 0) AS version,
      client_info.app_build AS build_id,
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
      AND REGEXP_CONTAINS(client_info.app_build, '^[0-9]{8}([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]$')
      AND SAFE_CAST(
        CONCAT(
          SUBSTR(client_info.app_build, 1, 4), '-',
          SUBSTR(client_info.app_build, 5, 2), '-',
          SUBSTR(client_info.app_build, 7, 2)
        ) AS DATE
      ) BETWEEN @first_build_day AND @last_build_day
  )
)
WHERE
  version BETWEEN @first_version AND @last_version
  AND (NOT sampled OR sample_id < @windows_sample_ids)
