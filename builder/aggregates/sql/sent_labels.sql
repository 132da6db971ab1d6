-- The values of a labeled metric: a row for each label.
SELECT
  client, submission_day, origin,
  probed.probe,
  {{label}} AS metric_key,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST([
    {{probes}}
  ]) AS probed
  CROSS JOIN UNNEST(probed.value) AS entry
WHERE
  entry.key IS NOT NULL
  AND entry.value IS NOT NULL
