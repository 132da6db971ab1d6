-- Booleans: the distinct clients whose values are true always, never or sometimes, in each roll-up.
{{sent}},
clients AS (
  SELECT
    probe, client_id, unit, place, metric_key,
    LOGICAL_OR(value) AS ever,
    LOGICAL_OR(NOT value) AS ever_not
  FROM
    sent
    INNER JOIN (SELECT unit FROM units WHERE large_enough) USING (unit)
  GROUP BY
    probe, client_id, unit, place, metric_key
),
counted AS (
  SELECT
    probe, client_id, unit, place, metric_key,
    '' AS client_agg_type,
    TRUE AS has_value,
    0 AS samples,
    CASE WHEN NOT ever_not THEN 'always' WHEN NOT ever THEN 'never' ELSE 'sometimes' END AS bucket
  FROM
    clients
),
{{distinct_clients}}
{{shown}}
{{by_probe}}
