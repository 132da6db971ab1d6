-- How many sessions began in an hour, of all products together and of each.
SELECT TO_JSON_STRING(STRUCT(hour, product, bot, role, sessions)) AS line
FROM (
  SELECT
    UNIX_MICROS(TIMESTAMP_TRUNC(started_at, HOUR)) AS hour, about AS product, bot, role, COUNT(*) AS sessions
  FROM (
{{sessions}}
  )
  CROSS JOIN UNNEST(ARRAY_CONCAT(products, [''])) AS about
  GROUP BY hour, product, bot, role
)
