-- A row for each combination with enough clients, and its cells in an array: of the words that a row takes, theirs are
-- a fraction.
shown AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type,
    SUM(users) AS total_users,
    SUM(samples) AS total_samples,
    LOGICAL_OR(weighted) AS any_weighted,
    ARRAY_AGG(STRUCT(bucket, CAST(amount AS FLOAT64) AS amount, samples)) AS buckets
  FROM
    cells
  GROUP BY
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type
)
SELECT
  probe, version, ping_type, os, build_hour, metric_key, client_agg_type,
  total_users AS users,
  total_samples AS samples,
  any_weighted AS weighted,
  buckets
FROM
  shown
WHERE
  total_users > @minimum_row_users + 0.5  -- total_users is whole but for binary noise
