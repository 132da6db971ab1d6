-- A row for each combination with enough clients, and its cells as one text, which a client of BigQuery reads in a
-- fraction of the time that it takes for values: samples, amount and bucket, with NUL between cells.
shown AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, client_agg_type,
    SUM(users) AS total_users,
    SUM(samples) AS total_samples,
    LOGICAL_OR(weighted) AS any_weighted,
    STRING_AGG(
      CONCAT(CAST(samples AS STRING), ' ', CAST(amount AS STRING), ' ', REPLACE(CAST(bucket AS STRING), @nul, ' ')),
      @nul
    ) AS texts
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
  texts AS cells
FROM
  shown
WHERE
  total_users > @minimum_row_users + 0.5  -- total_users is whole but for binary noise
