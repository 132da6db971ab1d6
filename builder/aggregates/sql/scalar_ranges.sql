-- Scalars, first pass: what the buckets of each label are made from; labels that no row can be shown of are left out.
{{scalar_clients}}
SELECT
  metric_key,
  MIN(value) AS smallest,
  MAX(value) AS largest
FROM
  aggregates
  INNER JOIN units USING (unit)
GROUP BY
  metric_key
HAVING
  SUM(IF(client_agg_type = 'count', client_weight, 0)) > @minimum_row_users
