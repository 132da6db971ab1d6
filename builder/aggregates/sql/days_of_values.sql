-- All pings of the day count, those without the value, too.
SELECT
  probed.probe, client, origin,
  '' AS metric_key,
  probed.largest, probed.smallest, probed.high, probed.low, occurrences
FROM
  client_days
  CROSS JOIN UNNEST(probes) AS probed
WHERE
  probed.largest IS NOT NULL
