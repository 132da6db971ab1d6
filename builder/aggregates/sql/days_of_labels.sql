-- Of a label, only the pings with the label count.
SELECT
  probe, client, origin, metric_key,
  MAX(value) AS largest,
  MIN(value) AS smallest,
  SUM(DIV(value, 4294967296)) AS high,
  SUM(MOD(value, 4294967296)) AS low,
  COUNT(*) AS occurrences
FROM
  sent
GROUP BY
  probe, client, submission_day, origin, metric_key
