-- The pings of one type: the columns that every probe needs, and the probes' own, `value_` with the probe's number.
-- A ping without a system gets `*`, and one without a version an empty text, so that NULLs need no joins of their own;
-- origins.sql has no system for `*`, which would be taken for the roll-up. Where Windows clients are sampled, GLAM's ETL
-- asks whether the system is Windows, which is neither true nor false without one: those pings are not read there.
SELECT
  client_info.client_id AS client_id,
  '{{ping}}' AS ping_type,
  DATE(submission_timestamp) AS submission_day,
  COALESCE(client_info.os, '*') AS sent_os,
  {{sent_version}} AS sent_version,
  client_info.app_build AS build_id,
  sample_id,
  {{values}}
FROM
  `{{table}}`
WHERE
{{read}}
  AND (@windows_weight = 1 OR client_info.os IS NOT NULL)
