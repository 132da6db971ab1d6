-- Scalars, second pass: distinct clients in each bucket, over every roll-up of ping type, system and build.
-- bucket: how many bounds are at or below the value. @ranges: for each label its bounds, a bar, and the label.
{{scalar_clients}},
ranges AS (
  SELECT
    SUBSTR(label_range, STRPOS(label_range, '|') + 1) AS metric_key,
    ARRAY(
      SELECT SAFE_CAST(bound AS FLOAT64) FROM UNNEST(SPLIT(SPLIT(label_range, '|')[OFFSET(0)], ',')) AS bound
    ) AS bounds
  FROM
    UNNEST(@ranges) AS label_range
),
buckets AS (  -- a row for each distinct value, because there are fewer of them than clients
  SELECT
    metric_key, value,
    (SELECT COUNT(*) FROM UNNEST(bounds) AS bound WHERE bound <= value) AS bucket
  FROM
    (SELECT DISTINCT metric_key, COALESCE(value, -1.0) AS value FROM aggregates)
    INNER JOIN ranges USING (metric_key)
),
counted AS (
  SELECT
    client_id, unit, place, metric_key, client_agg_type, has_value, samples, bucket
  FROM (
    SELECT
      client_id, unit, place, metric_key, client_agg_type,
      value IS NOT NULL AS has_value,
      COALESCE(occurrences, 0) AS samples,
      COALESCE(value, -1.0) AS value  -- no value counts as one below every bound
    FROM
      aggregates
  )
    INNER JOIN buckets USING (metric_key, value)
),
{{distinct_clients}}
{{shown}}
