-- The labels of a counter that declares them all, as buckets.
SELECT
  pings.* EXCEPT (value),
  '' AS metric_key,
  {{label}} AS bucket,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST(value) AS entry
WHERE
  entry.key IS NOT NULL
