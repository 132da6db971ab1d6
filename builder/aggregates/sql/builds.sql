-- The builds, and whether enough clients run them. Every client counts that sent a ping, with the probe in it or not.
SELECT
  build_hour,
  COUNT(DISTINCT client_id) > @minimum_build_clients AS large_enough
FROM
  pings
GROUP BY
  build_hour
