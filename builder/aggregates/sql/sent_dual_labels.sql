-- The values of a metric with two labels: a row for each pair of them.
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
  CROSS JOIN UNNEST(probed.value) AS category
  CROSS JOIN UNNEST(category.value) AS entry
WHERE
  category.key IS NOT NULL
  AND entry.key IS NOT NULL
  AND entry.value IS NOT NULL
