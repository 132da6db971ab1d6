-- The probes that were viewed, by people or by bots.
SELECT TO_JSON_STRING(STRUCT(series, product, probe, bot)) AS line
FROM (
  SELECT DISTINCT series, product, probe, bot
  FROM (
{{viewed}}
  )
)
