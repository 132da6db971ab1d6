shown AS (
  SELECT
    *,
    SUM(users) OVER (
      PARTITION BY probe, version, ping_type, os, build_hour, metric_key, client_agg_type
    ) AS total_users
  FROM
    cells
)
SELECT
  probe, version, ping_type, os, build_hour, metric_key, client_agg_type, bucket, amount, users, samples, weighted
FROM
  shown
WHERE
  total_users > @minimum_row_users + 0.5  -- total_users is whole but for binary noise
