-- Scalars, second pass: distinct clients in each bucket, over every roll-up of ping type, system and build.
-- bucket: how many bounds are at or below the value. @ranges: for each label of a probe the probe's number, a bar, the
-- label's bounds, a bar, and the label.
{{scalar_clients}},
ranges AS (
  SELECT
    SAFE_CAST(parts[OFFSET(0)] AS INT64) AS probe,
    SUBSTR(label_range, LENGTH(parts[OFFSET(0)]) + LENGTH(parts[OFFSET(1)]) + 3) AS metric_key,
    ARRAY(SELECT SAFE_CAST(bound AS FLOAT64) FROM UNNEST(SPLIT(parts[OFFSET(1)], ',')) AS bound) AS bounds
  FROM (
    SELECT label_range, SPLIT(label_range, '|') AS parts FROM UNNEST(@ranges) AS label_range
  )
),
buckets AS (  -- a row for each distinct value, because there are fewer of them than clients
  SELECT
    probe, metric_key, value,
    (SELECT COUNT(*) FROM UNNEST(bounds) AS bound WHERE bound <= value) AS bucket
  FROM
    (SELECT DISTINCT probe, metric_key, COALESCE(value, -1.0) AS value FROM aggregates)
    INNER JOIN ranges USING (probe, metric_key)
),
counted AS (
  SELECT
    probe, client_id, unit, place, metric_key, client_agg_type, has_value, samples, bucket
  FROM (
    SELECT
      probe, client_id, unit, place, metric_key, client_agg_type,
      value IS NOT NULL AS has_value,
      COALESCE(occurrences, 0) AS samples,
      COALESCE(value, -1.0) AS value  -- no value counts as one below every bound
    FROM
      aggregates
  )
    INNER JOIN buckets USING (probe, metric_key, value)
),
{{distinct_clients}}
{{shown}}
{{by_probe}}
