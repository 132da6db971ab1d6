-- The distinct clients of each cell. `by_unit` has the clients and samples of each unit, client_agg_type and bucket, and
-- `any_build` the clients of each place and version, each once whatever its builds. Both have the movers apart: clients
-- with one system and one ping type are counted; only the others are told apart while systems and ping types are rolled
-- up, and each of them counts once in a cell.
places AS (
  SELECT DISTINCT
    place, version, ping_type, os, client_weight
  FROM
    units
),
grouped AS (  -- of any build, samples add up, and clients are those of all builds together
  SELECT
    probe, mover, place, version, build_hour, metric_key, client_agg_type, bucket, clients, samples
  FROM
    by_unit
    INNER JOIN units USING (unit)
  UNION ALL
  SELECT
    probe, mover, place, version, '*' AS build_hour, metric_key, client_agg_type, bucket, 0 AS clients, samples
  FROM
    by_unit
    INNER JOIN units USING (unit)
  UNION ALL
  SELECT
    probe, mover, place, version, '*' AS build_hour, metric_key, client_agg_type, bucket, clients, 0 AS samples
  FROM
    any_build
),
rolled_up AS (
  SELECT
    probe, mover, version, build_hour, metric_key, client_agg_type, bucket, client_weight, clients, samples,
    IF(any_ping, '*', ping_type) AS ping_type,
    IF(any_os, '*', os) AS os
  FROM
    grouped
    INNER JOIN places USING (place, version)
    CROSS JOIN UNNEST(@any_ping) AS any_ping
    CROSS JOIN UNNEST([FALSE, TRUE]) AS any_os
  WHERE
    any_os
    OR os IS NOT NULL
),
deduplicated AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket,
    IF(mover IS NULL, SUM(clients), LEAST(SUM(clients), 1)) AS clients,
    IF(
      mover IS NULL,
      SUM(IF(client_weight > 1, clients, 0)),
      LEAST(SUM(IF(client_weight > 1, clients, 0)), 1)
    ) AS weighted_clients,
    SUM(samples) AS samples,
    LOGICAL_OR(client_weight > 1) AS weighted
  FROM
    rolled_up
  GROUP BY
    probe, mover, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket
),
cells AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket,
    SUM(clients) AS amount,
    SUM(clients + (@windows_weight - 1) * weighted_clients) AS users,
    SUM(samples) AS samples,
    LOGICAL_OR(weighted) AS weighted
  FROM
    deduplicated
  GROUP BY
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket
),
