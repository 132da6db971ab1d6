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
client_buckets AS (
  SELECT
    probe, client, unit, metric_key,
    SUM(samples) AS client_samples,
    ARRAY_AGG(STRUCT(bucket, samples)) AS buckets
  FROM
    days
    INNER JOIN origin_units USING (origin)
  WHERE
    samples <= 1099511627776
  GROUP BY
    probe, client, unit, metric_key
),
shares AS (  -- a client's share of a bucket is the sum of its days' shares
  SELECT
    probe, unit, metric_key, counted.bucket,
    SUM(COALESCE(SAFE_DIVIDE(counted.samples, client_samples), 0)) AS share,
    SUM(counted.samples) AS samples
  FROM
    client_buckets
    CROSS JOIN UNNEST(buckets) AS counted
  GROUP BY
    probe, unit, metric_key, counted.bucket
),
members AS (
  SELECT
    probe, version, ping_type, os, build_hour, large_enough, metric_key, bucket,
    client_weight * share AS share,
    samples,
    client_weight > 1 AS weighted
  FROM
    shares
    INNER JOIN units USING (unit)
),
rolled_up AS (
{{roll_ups}}
),
cells AS (
  SELECT
    probe, version, ping_type, os, build_hour, metric_key,
    'summed_histogram' AS client_agg_type,
    bucket,
    SUM(share) AS amount,
    SUM(share) AS users,
    SUM(samples) AS samples,
    LOGICAL_OR(weighted) AS weighted
  FROM
    rolled_up
  GROUP BY
    probe, version, ping_type, os, build_hour, metric_key, bucket
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
  ARRAY_AGG(STRUCT(bucket, 0.0 AS amount, 0 AS samples)) AS buckets
FROM
  (SELECT DISTINCT probe, bucket FROM members)
GROUP BY
  probe
{{by_probe}}
