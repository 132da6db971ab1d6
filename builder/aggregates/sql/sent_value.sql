-- The value of a metric without labels: a row for each ping, with the value or without.
SELECT
  pings.*,
  '' AS metric_key
FROM
  pings
