-- The values of a distribution: a row for each bucket.
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
  AND entry.value BETWEEN 0 AND 1099511627776
