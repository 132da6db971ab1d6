-- The values of a labeled metric: a row for each label.
SELECT
  pings.* EXCEPT (value),
  {{label}} AS metric_key,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST(value) AS entry
WHERE
  entry.key IS NOT NULL
  AND entry.value IS NOT NULL
