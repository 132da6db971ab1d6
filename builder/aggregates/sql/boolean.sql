-- Booleans: the distinct clients whose values are true always, never or sometimes, in each roll-up.
{{sent}},
aggregates AS (
  SELECT
    probe, client, unit, place, version, metric_key,
    CASE WHEN NOT ever_not THEN 'always' WHEN NOT ever THEN 'never' ELSE 'sometimes' END AS bucket
  FROM (
    SELECT
      probe, client, unit, metric_key,
      LOGICAL_OR(value) AS ever,
      LOGICAL_OR(NOT value) AS ever_not
    FROM
      sent
      INNER JOIN origin_units USING (origin)
    GROUP BY
      probe, client, unit, metric_key
  )
    INNER JOIN (SELECT unit, place, version FROM units WHERE large_enough) USING (unit)
),
by_unit AS (
  SELECT
    probe, unit, metric_key, bucket,
    IF(client < 0, client, NULL) AS mover,
    '' AS client_agg_type,
    COUNT(*) AS clients,
    0 AS samples
  FROM
    aggregates
  GROUP BY
    probe, mover, unit, metric_key, bucket
),
any_build AS (
  SELECT
    probe, place, version, metric_key, bucket,
    IF(client < 0, client, NULL) AS mover,
    '' AS client_agg_type,
    COUNT(*) AS clients
  FROM
    (SELECT DISTINCT probe, client, place, version, metric_key, bucket FROM aggregates)
  GROUP BY
    probe, mover, place, version, metric_key, bucket
),
{{distinct_clients}}
{{shown}}
{{by_probe}}
