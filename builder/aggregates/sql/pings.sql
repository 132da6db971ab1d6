-- The pings of one type: the columns every probe needs, and the probe's own as `value`.
-- A ping without a system gets `*`, and one without a version an empty text, so that NULLs need no joins of their own;
-- origins.sql has no system for `*`, which would be taken for the roll-up.
SELECT
  client_info.client_id AS client_id,
  '{{ping}}' AS ping_type,
  DATE(submission_timestamp) AS submission_day,
  COALESCE(client_info.os, '*') AS sent_os,
  COALESCE(client_info.app_display_version, '') AS sent_version,
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
