labels AS (  -- by number, a narrower key
  SELECT
    probe, metric_key,
    ROW_NUMBER() OVER (ORDER BY probe, metric_key) AS label
  FROM
    (SELECT DISTINCT probe, metric_key FROM summed)
),
