-- The view of analysts: how often each probe was viewed, and by how many, a day.
SELECT
  day, product, probe, channel, bot,
  COUNT(*) AS views, COUNTIF(found) AS found, COUNTIF(found IS NOT TRUE) AS missing, COUNT(DISTINCT visitor) AS visitors
FROM (
{{viewed}}
)
GROUP BY day, product, probe, channel, bot
