-- Distributions: for each build, system, ping type and bucket the sum of the clients' shares and of their samples.
WITH pings AS (
{{pings}}
),
builds AS (
{{builds}}
),
days AS (
  SELECT
    client_id, ping_type, submission_day, os, version, build_id, build_hour, client_weight,
    entry.key AS bucket,
    SUM(entry.value) AS samples
  FROM
    pings
    CROSS JOIN UNNEST(value) AS entry
  WHERE
    entry.key IS NOT NULL
  GROUP BY
    client_id, ping_type, submission_day, os, version, build_id, build_hour, client_weight, bucket
),
clients AS (
  SELECT
    client_id, ping_type, os, version, build_hour, client_weight, bucket,
    SUM(samples) AS samples
  FROM
    days
  WHERE
    samples BETWEEN 0 AND 1099511627776  -- 2^40
  GROUP BY
    client_id, ping_type, os, version, build_hour, client_weight, bucket
),
totals AS (
  SELECT
    version, ping_type, os, build_hour, client_weight, bucket, samples,
    SUM(samples) OVER (PARTITION BY client_id, ping_type, os, version, build_hour) AS client_samples
  FROM
    clients
)
SELECT
  version, ping_type, os, build_hour, large_enough, bucket,
  SUM(client_weight * COALESCE(SAFE_DIVIDE(samples, client_samples), 0)) AS share,
  SUM(samples) AS samples
FROM
  totals
  INNER JOIN builds USING (build_hour)
GROUP BY
  version, ping_type, os, build_hour, large_enough, bucket
