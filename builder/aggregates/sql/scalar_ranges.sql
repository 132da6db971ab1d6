-- Scalars, first pass: the range of values that the buckets of each label are made of. Labels with too few clients for
-- any row are left out.
{{scalar_clients}}
SELECT
  probe, metric_key,
  MIN(value) AS smallest,
  MAX(value) AS largest
FROM
  aggregates
  INNER JOIN units USING (unit)
GROUP BY
  probe, metric_key
HAVING
  SUM(IF(client_agg_type = 'count', client_weight, 0)) > @minimum_row_users
