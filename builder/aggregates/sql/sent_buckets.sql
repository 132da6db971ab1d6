-- The buckets of a distribution.
SELECT
  pings.* EXCEPT (value),
  '' AS metric_key,
  entry.key AS bucket,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST(value) AS entry
WHERE
  entry.key IS NOT NULL
