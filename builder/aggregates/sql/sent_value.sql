-- One value in a column; pings without it too.
SELECT
  pings.*,
  '' AS metric_key
FROM
  pings
