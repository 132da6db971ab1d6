-- The five aggregates of each client, by its build, system and ping type; builds with too few clients are left out.
-- occurrences: the number of the client's pings of a day, if at least one has the probe; of a label, only those with
-- the label. high and low: a sum of 64 bits in two halves, because one broken client could make it overflow.
{{sent}},
days AS (
  SELECT
    probe, client_id, submission_day, origin, unit, place, metric_key,
    MAX(value) AS largest,
    MIN(value) AS smallest,
    SUM(DIV(value, 4294967296)) AS high,
    SUM(MOD(value, 4294967296)) AS low,
    COUNT(*) AS occurrences
  FROM
    sent
  GROUP BY
    probe, client_id, submission_day, origin, unit, place, metric_key
),
summed_days AS (
  SELECT
    probe, client_id, unit, place, metric_key, largest, smallest, occurrences,
    IF(ABS(high) < 1048576, high * 4294967296 + low, NULL) AS total
  FROM
{{counted_days}}
),
plausible_days AS (  -- values from 0 to 2^40
  SELECT
    probe, client_id, unit, place, metric_key,
    IF(largest BETWEEN 0 AND 1099511627776, largest, NULL) AS largest,
    IF(smallest BETWEEN 0 AND 1099511627776, smallest, NULL) AS smallest,
    IF(total BETWEEN 0 AND 1099511627776, total, NULL) AS total,
    IF(occurrences BETWEEN 0 AND 1099511627776, occurrences, NULL) AS occurrences
  FROM
    summed_days
),
clients AS (
  SELECT
    probe, client_id, unit, place, metric_key,
    MAX(largest) AS largest,
    MIN(smallest) AS smallest,
    SUM(total) AS total,
    SUM(occurrences) AS occurrences
  FROM
    plausible_days
    INNER JOIN (SELECT unit FROM units WHERE large_enough) USING (unit)
  GROUP BY
    probe, client_id, unit, place, metric_key
),
aggregates AS (
  SELECT
    probe, client_id, unit, place, metric_key, occurrences,
    item.name AS client_agg_type,
    item.value AS value
  FROM
    clients
    CROSS JOIN UNNEST([
      STRUCT('max' AS name, CAST(largest AS FLOAT64) AS value),
      STRUCT('min' AS name, CAST(smallest AS FLOAT64) AS value),
      STRUCT('avg' AS name, SAFE_DIVIDE(total, occurrences) AS value),
      STRUCT('sum' AS name, CAST(total AS FLOAT64) AS value),
      STRUCT('count' AS name, CAST(occurrences AS FLOAT64) AS value)
    ]) AS item
)
