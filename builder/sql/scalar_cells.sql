-- Scalars, second pass: distinct clients in each bucket, over every roll-up of ping type, system and build.
-- bucket: how many bounds are at or below the value. @ranges: of each label its bounds, a bar, and itself.
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
members AS (
  SELECT
    client_id, ping_type, os, version, build_hour, client_weight, metric_key, large_enough, client_agg_type,
    COALESCE(occurrences, 0) AS samples,
    value IS NOT NULL AS has_value,
    (SELECT COUNT(*) FROM UNNEST(bounds) AS bound WHERE bound <= value) AS bucket
  FROM
    aggregates
    INNER JOIN ranges USING (metric_key)
),
{{distinct_clients}}
{{shown}}
