-- Scalars: distinct clients in each bucket of each of five aggregates, over every roll-up of ping type, system and build;
-- builds with too few clients are left out. high and low: a sum of 64 bits in two halves, because one broken client could
-- make it overflow. occurrences: the number of the client's pings of a day. Values are those from 0 to 2^40, -1 where
-- there is none; bucket: how many bounds are at or below the value.
{{sent}},
plausible_days AS (
  SELECT
    probe, client, unit, metric_key,
    IF(largest BETWEEN 0 AND 1099511627776, largest, NULL) AS largest,
    IF(smallest BETWEEN 0 AND 1099511627776, smallest, NULL) AS smallest,
    IF(ABS(high) < 1048576 AND high * 4294967296 + low BETWEEN 0 AND 1099511627776, high * 4294967296 + low, NULL) AS total,
    IF(occurrences BETWEEN 0 AND 1099511627776, occurrences, NULL) AS occurrences
  FROM
    days
    INNER JOIN origin_units USING (origin)
),
summed AS (
  SELECT
    probe, client, unit, metric_key,
    MAX(largest) AS largest,
    MIN(smallest) AS smallest,
    SUM(total) AS total,
    SUM(occurrences) AS occurrences
  FROM
    plausible_days
  GROUP BY
    probe, client, unit, metric_key
),
{{labels}}
aggregates AS (  -- of which one has the value, as bits: of a single ping, largest, smallest, average and sum are the same
  SELECT
    client, unit, place, version, label, occurrences,
    item.kinds,
    COALESCE(item.value, -1.0) AS value
  FROM
    summed
    INNER JOIN (SELECT unit, place, version FROM units WHERE large_enough) USING (unit)
    INNER JOIN labels USING (probe, metric_key)
    CROSS JOIN UNNEST(IF(
      largest = smallest AND largest = total AND occurrences = 1,
      [
        STRUCT(15 AS kinds, CAST(largest AS FLOAT64) AS value),
        STRUCT(16 AS kinds, CAST(occurrences AS FLOAT64) AS value)
      ],
      [
        STRUCT(1 AS kinds, CAST(largest AS FLOAT64) AS value),
        STRUCT(2 AS kinds, CAST(smallest AS FLOAT64) AS value),
        STRUCT(4 AS kinds, SAFE_DIVIDE(total, occurrences) AS value),
        STRUCT(8 AS kinds, CAST(total AS FLOAT64) AS value),
        STRUCT(16 AS kinds, CAST(occurrences AS FLOAT64) AS value)
      ]
    )) AS item
),
kinds_of AS (
  SELECT
    named.kind, named.client_agg_type
  FROM
    UNNEST([
      STRUCT(1 AS kind, 'max' AS client_agg_type),
      STRUCT(2 AS kind, 'min' AS client_agg_type),
      STRUCT(4 AS kind, 'avg' AS client_agg_type),
      STRUCT(8 AS kind, 'sum' AS client_agg_type),
      STRUCT(16 AS kind, 'count' AS client_agg_type)
    ]) AS named
),
counted AS (  -- by value: there are fewer of them than clients
  SELECT
    unit, label, kinds, value,
    COUNTIF(value >= 0) AS clients,
    COUNTIF(value >= 0 AND client > 0) AS settled,
    SUM(COALESCE(occurrences, 0)) AS samples
  FROM
    aggregates
  GROUP BY
    unit, label, kinds, value
),
ranges AS (  -- labels with too few clients for any row are left out
  SELECT
    label,
    MIN(IF(value >= 0, value, NULL)) AS smallest,
    MAX(value) AS largest
  FROM
    counted
    INNER JOIN units USING (unit)
  GROUP BY
    label
  HAVING
    SUM(IF(kinds = 16, clients * client_weight, 0)) > @minimum_row_users
),
bounded AS (  -- the bounds are those of scalar_ranges.py
  SELECT
    label,
    {{scalar_bounds}} AS bounds
  FROM (
    SELECT
      label,
      {{scalar_logarithms}}
    FROM
      ranges
  )
),
buckets AS (
  SELECT
    label, value,
    {{scalar_bucket}} AS bucket
  FROM
    (SELECT DISTINCT label, value FROM counted)
    INNER JOIN bounded USING (label)
),
in_buckets AS (
  SELECT
    client, unit, place, version, label, bucket, kinds
  FROM
    aggregates
    INNER JOIN buckets USING (label, value)
  WHERE
    value >= 0
),
by_unit AS (
  SELECT
    unit, label, bucket, kinds,
    SUM(settled) AS settled,
    SUM(samples) AS samples
  FROM
    counted
    INNER JOIN buckets USING (label, value)
  GROUP BY
    unit, label, bucket, kinds
),
{{distinct_clients}}
{{shown}}
UNION ALL  -- the range of each label, its two ends as cells in a row without a version
SELECT
  probe,
  NULL AS version,
  CAST(NULL AS STRING) AS ping_type,
  CAST(NULL AS STRING) AS os,
  CAST(NULL AS STRING) AS build_hour,
  metric_key,
  CAST(NULL AS STRING) AS client_agg_type,
  0 AS users,
  0 AS samples,
  FALSE AS weighted,
  CONCAT('0 ', CAST(smallest AS STRING), ' 0', @nul, '0 ', CAST(largest AS STRING), ' 1') AS cells
FROM
  ranges
  INNER JOIN labels USING (label)
{{by_probe}}
