-- The builds, and whether enough clients run them. Every client counts that sent a ping, with the probe in it or not.
SELECT
  build_hour,
  COUNT(DISTINCT client) > @minimum_build_clients AS large_enough
FROM
  {{all_pings}}
  INNER JOIN origin_units USING (origin)
GROUP BY
  build_hour
