-- One value for a pair of labels.
SELECT
  pings.* EXCEPT (value),
  {{label}} AS metric_key,
  entry.value AS value
FROM
  pings
  CROSS JOIN UNNEST(value) AS category
  CROSS JOIN UNNEST(category.value) AS entry
WHERE
  category.key IS NOT NULL
  AND entry.key IS NOT NULL
  AND entry.value IS NOT NULL
