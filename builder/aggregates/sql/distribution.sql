-- Distributions: the sums of the clients' shares and of their samples, for each combination and bucket.
-- What a ping sends of a bucket counts from 0 to 2^40, and so does the sum of a client's day.
{{sent}},
days AS (
  SELECT
    probe, client, origin, metric_key, bucket,
    SUM(value) AS samples
  FROM
    sent
  GROUP BY
    probe, client, submission_day, origin, metric_key, bucket
),
days_of_clients AS (
  SELECT
    probe, unit, metric_key, bucket, samples,
    SUM(samples) OVER (PARTITION BY probe, client, unit, metric_key) AS client_samples
  FROM
    days
    INNER JOIN origin_units USING (origin)
  WHERE
    samples <= 1099511627776
),
shares AS (  -- a client's share of a bucket is the sum of its days' shares
  SELECT
    probe, unit, metric_key, bucket,
    SUM(COALESCE(SAFE_DIVIDE(samples, client_samples), 0)) AS share,
    SUM(samples) AS samples
  FROM
    days_of_clients
  GROUP BY
    probe, unit, metric_key, bucket
),
{{combinations}}
builds_of AS (  -- of any build, those with too few clients count, too
  SELECT unit, place, build FROM units WHERE large_enough
  UNION ALL
  SELECT unit, place, -version AS build FROM units
),
cells AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key, bucket,
    'summed_histogram' AS client_agg_type,
    amount,
    amount AS users,
    samples, weighted
  FROM (
    SELECT
      probe, combination, metric_key, bucket,
      SUM(client_weight * share) AS amount,
      SUM(samples) AS samples,
      LOGICAL_OR(client_weight > 1) AS weighted
    FROM
      shares
      INNER JOIN builds_of USING (unit)
      INNER JOIN combinations USING (place, build)
    GROUP BY
      probe, combination, metric_key, bucket
  )
    INNER JOIN names USING (combination)
),
{{shown}}
-- The buckets that occur in any ping of a probe, in a row without a version: the bucket list depends on all of them.
UNION ALL
SELECT
  probe,
  NULL AS version,
  CAST(NULL AS STRING) AS ping_type,
  CAST(NULL AS STRING) AS os,
  CAST(NULL AS STRING) AS build_hour,
  CAST(NULL AS STRING) AS metric_key,
  CAST(NULL AS STRING) AS client_agg_type,
  0.0 AS users,
  0 AS samples,
  FALSE AS weighted,
  STRING_AGG(CONCAT('0 0 ', REPLACE(bucket, @nul, ' ')), @nul) AS cells
FROM
  (SELECT DISTINCT probe, bucket FROM shares)
GROUP BY
  probe
{{by_probe}}
