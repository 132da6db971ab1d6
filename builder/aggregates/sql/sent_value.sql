-- The values of a metric without labels: a row for each ping that has it.
SELECT
  client, submission_day, origin,
  probed.probe,
  '' AS metric_key,
  probed.value AS value
FROM
  pings
  CROSS JOIN UNNEST([
    {{probes}}
  ]) AS probed
WHERE
  probed.value IS NOT NULL
