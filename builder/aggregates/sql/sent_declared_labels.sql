-- The values of a counter that declares all its labels: a row for each label, as a bucket.
SELECT
  client, submission_day, origin,
  probed.probe,
  '' AS metric_key,
  {{label}} AS bucket,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST([
    {{probes}}
  ]) AS probed
  CROSS JOIN UNNEST(probed.value) AS entry
WHERE
  entry.key IS NOT NULL
  AND entry.value BETWEEN 0 AND 1099511627776
