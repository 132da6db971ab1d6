-- Scalars, first pass: what the buckets are made from, and the sample counts.
{{scalar_clients}}
SELECT
  version, os, build_hour,
  MIN(value) AS smallest,
  MAX(value) AS largest,
  SUM(IF(client_agg_type = 'count', value, 0)) AS samples
FROM
  aggregates
GROUP BY
  version, os, build_hour
