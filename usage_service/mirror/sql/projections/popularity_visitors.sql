-- On which days who viewed what.
SELECT TO_JSON_STRING(STRUCT(series, visitor, number AS day, channel)) AS line
FROM (
  SELECT DISTINCT series, visitor, number, channel
  FROM (
{{viewed}}
  )
  WHERE visitor IS NOT NULL
)
