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
totals AS (
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
    totals
  GROUP BY
    probe, unit, metric_key, bucket
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
-- Each bucket that occurs in any ping of a probe, as a cell without a version: the bucket list depends on all of them.
UNION ALL
SELECT
  probe,
  NULL AS version,
  CAST(NULL AS STRING) AS ping_type,
  CAST(NULL AS STRING) AS os,
  CAST(NULL AS STRING) AS build_hour,
  CAST(NULL AS STRING) AS metric_key,
  CAST(NULL AS STRING) AS client_agg_type,
  bucket,
  0.0 AS amount,
  0.0 AS users,
  0 AS samples,
  FALSE AS weighted
FROM
  members
GROUP BY
  probe, bucket
{{by_probe}}
