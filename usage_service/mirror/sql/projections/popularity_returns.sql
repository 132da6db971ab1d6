-- How many visitors of a day were there last on which day before, by one channel and by whichever.
WITH visitor_days AS (
  SELECT DISTINCT series, visitor, by_channel, number AS day
  FROM (
{{viewed}}
  )
  CROSS JOIN UNNEST(['*', channel]) AS by_channel
  WHERE visitor IS NOT NULL AND by_channel <> ''
), returns AS (
  SELECT
    series, by_channel, day,
    LAG(day) OVER (PARTITION BY series, visitor, by_channel ORDER BY day) AS previous_day
  FROM visitor_days
), counted AS (
  SELECT series, by_channel, day, previous_day, COUNT(*) AS visitors
  FROM returns
  GROUP BY series, by_channel, day, previous_day
)
SELECT TO_JSON_STRING(STRUCT(series, by_channel AS channel, day, previous_day, visitors)) AS line FROM counted
