rolled_up AS (
{{roll_ups}}
),
distinct_clients AS (
  SELECT
    version, ping_type, os, build_hour, metric_key, client_agg_type, bucket,
    COUNT(DISTINCT IF(has_value, client_id, NULL)) AS clients,
    COUNT(DISTINCT IF(has_value AND client_weight > 1, client_id, NULL)) AS weighted_clients,
    SUM(samples) AS samples,
    LOGICAL_OR(client_weight > 1) AS weighted
  FROM
    rolled_up
  GROUP BY
    version, ping_type, os, build_hour, metric_key, client_agg_type, bucket
),
cells AS (
  SELECT
    version, ping_type, os, build_hour, metric_key, client_agg_type, bucket,
    clients AS amount,
    clients + (@windows_weight - 1) * weighted_clients AS users,
    samples,
    weighted
  FROM
    distinct_clients
),
