-- Views in buckets of a day, and of 1, 4 and 16 weeks that ended before the week of the latest day.
WITH daily AS (
  SELECT number, series, channel, COUNTIF(found) AS found, COUNTIF(found IS NOT TRUE) AS missing
  FROM (
{{viewed}}
  )
  GROUP BY number, series, channel
), latest AS (
  SELECT MAX(number) - MOD(MOD(MAX(number), 7) + 7, 7) AS week FROM daily
), placed AS (
  SELECT days, number - MOD(MOD(number, days) + days, days) AS first_day, series, channel, found, missing
  FROM daily
  CROSS JOIN UNNEST([1, 7, 28, 112]) AS days
), buckets AS (
  SELECT days, first_day, series, channel, SUM(found) AS found, SUM(missing) AS missing
  FROM placed
  CROSS JOIN latest
  WHERE days = 1 OR first_day + days <= week
  GROUP BY days, first_day, series, channel
)
SELECT TO_JSON_STRING(STRUCT(days, first_day, series, channel, found, missing)) AS line FROM buckets
