-- The five aggregates of each client, by its build, system and ping type; builds with too few clients are left out.
-- occurrences: all pings of the client's day, those without the probe too, as long as one has it.
WITH pings AS (
{{pings}}
),
builds AS (
{{builds}}
),
days AS (
  SELECT
    client_id, ping_type, submission_day, os, version, build_id, build_hour,
    MAX(value) AS largest,
    MIN(value) AS smallest,
    SUM(value) AS total,
    COUNT(*) AS occurrences
  FROM
    pings
  GROUP BY
    client_id, ping_type, submission_day, os, version, build_id, build_hour
  HAVING
    COUNT(value) > 0
),
plausible_days AS (  -- 0 to 2^40
  SELECT
    client_id, ping_type, os, version, build_hour,
    IF(largest BETWEEN 0 AND 1099511627776, largest, NULL) AS largest,
    IF(smallest BETWEEN 0 AND 1099511627776, smallest, NULL) AS smallest,
    IF(total BETWEEN 0 AND 1099511627776, total, NULL) AS total,
    IF(occurrences BETWEEN 0 AND 1099511627776, occurrences, NULL) AS occurrences
  FROM
    days
),
clients AS (
  SELECT
    client_id, ping_type, os, version, build_hour,
    MAX(largest) AS largest,
    MIN(smallest) AS smallest,
    SUM(total) AS total,
    SUM(occurrences) AS occurrences
  FROM
    plausible_days
    INNER JOIN builds USING (build_hour)
  WHERE
    large_enough
  GROUP BY
    client_id, ping_type, os, version, build_hour
),
aggregates AS (
  SELECT
    client_id, ping_type, os, version, build_hour,
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
  WHERE
    item.value IS NOT NULL
)
