-- Booleans: the distinct clients whose values are true always, never or sometimes, in each roll-up.
{{sent}},
summed AS (
  SELECT
    probe, client, unit, metric_key,
    LOGICAL_OR(value) AS ever,
    LOGICAL_OR(NOT value) AS ever_not
  FROM
    sent
    INNER JOIN origin_units USING (origin)
  GROUP BY
    probe, client, unit, metric_key
),
{{labels}}
in_buckets AS (
  SELECT
    client, unit, place, version, label,
    CASE WHEN NOT ever_not THEN 'always' WHEN NOT ever THEN 'never' ELSE 'sometimes' END AS bucket,
    1 AS kinds
  FROM
    summed
    INNER JOIN (SELECT unit, place, version FROM units WHERE large_enough) USING (unit)
    INNER JOIN labels USING (probe, metric_key)
),
kinds_of AS (
  SELECT 1 AS kind, '' AS client_agg_type
),
by_unit AS (
  SELECT
    unit, label, bucket, kinds,
    COUNTIF(client > 0) AS settled,
    0 AS samples
  FROM
    in_buckets
  GROUP BY
    unit, label, bucket, kinds
),
{{distinct_clients}}
{{shown}}
{{by_probe}}
