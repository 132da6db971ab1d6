-- Booleans: distinct clients that always, never or sometimes say yes, over every roll-up.
{{sent}},
clients AS (
  SELECT
    client_id, ping_type, os, version, build_hour, client_weight, metric_key, large_enough,
    LOGICAL_OR(value) AS ever,
    LOGICAL_OR(NOT value) AS ever_not
  FROM
    sent
    INNER JOIN builds USING (build_hour)
  WHERE
    value IS NOT NULL
    AND large_enough
  GROUP BY
    client_id, ping_type, os, version, build_hour, client_weight, metric_key, large_enough
),
members AS (
  SELECT
    client_id, ping_type, os, version, build_hour, client_weight, metric_key, large_enough,
    '' AS client_agg_type,
    TRUE AS has_value,
    0 AS samples,
    CASE WHEN NOT ever_not THEN 'always' WHEN NOT ever THEN 'never' ELSE 'sometimes' END AS bucket
  FROM
    clients
),
{{distinct_clients}}
{{shown}}
