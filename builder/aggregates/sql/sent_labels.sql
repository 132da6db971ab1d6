-- One value a label.
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
