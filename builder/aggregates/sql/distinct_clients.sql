-- The distinct clients of each cell. `counted` has a row for each client, unit and client_agg_type. First the builds of
-- each client are rolled up. Clients with one system and one ping type are then counted; only the others, the movers,
-- are kept apart while systems and ping types are rolled up, and each of them counts once in a cell.
movers AS (
  SELECT
    client_id AS mover
  FROM
    pings
  GROUP BY
    client_id
  HAVING
    MIN(place) < MAX(place)
),
any_build AS (
  SELECT
    probe, client_id, place, version, metric_key, client_agg_type, bucket, client_weight,
    LOGICAL_OR(has_value) AS has_value,
    SUM(samples) AS samples
  FROM
    counted
    INNER JOIN units USING (unit)
  GROUP BY
    probe, client_id, place, version, metric_key, client_agg_type, bucket, client_weight
),
places AS (
  SELECT DISTINCT
    place, ping_type, os
  FROM
    origins
),
grouped AS (
  SELECT
    probe, mover, place, version, build_hour, metric_key, client_agg_type, bucket, client_weight,
    COUNTIF(has_value) AS clients,
    SUM(samples) AS samples
  FROM (
    SELECT
      probe, client_id, place, version, build_hour, metric_key, client_agg_type, bucket, client_weight, has_value,
      samples
    FROM
      counted
      INNER JOIN units USING (unit)
    UNION ALL
    SELECT
      probe, client_id, place, version, '*' AS build_hour, metric_key, client_agg_type, bucket, client_weight,
      has_value, samples
    FROM
      any_build
  )
    LEFT JOIN movers ON client_id = mover
  GROUP BY
    probe, mover, place, version, build_hour, metric_key, client_agg_type, bucket, client_weight
),
rolled_up AS (
  SELECT
    probe, mover, version, build_hour, metric_key, client_agg_type, bucket, client_weight, clients, samples,
    IF(any_ping, '*', ping_type) AS ping_type,
    IF(any_os, '*', os) AS os
  FROM
    grouped
    INNER JOIN places USING (place)
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
