-- The values of a labeled distribution: a row for each label and bucket.
SELECT
  client, submission_day, origin,
  probed.probe,
  {{label}} AS metric_key,
  entry.key AS bucket,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST([
    {{probes}}
  ]) AS probed
  CROSS JOIN UNNEST(probed.value) AS labeled
  CROSS JOIN UNNEST(labeled.values) AS entry
WHERE
  labeled.key IS NOT NULL
  AND entry.key IS NOT NULL
  AND entry.value BETWEEN 0 AND 1099511627776
