-- Rows of a batch, staged before, take the place of those of the same key, others are added and none goes, as by GLAM's own MERGE. A
-- channel's table of Fenix may name the app; a row that names none is the channel's, and Fog's names none. What was staged is the
-- batch's own: another batch may have been staged since.
MERGE INTO `{{aggregates}}` AS T
USING (SELECT * FROM `{{staged}}` WHERE batch = @batch) AS S
ON T.version = S.version
  AND T.ping_type = S.ping_type
  AND T.os = S.os
  AND T.build_id = S.build_id
  AND T.metric = S.metric
  AND T.metric_type = S.metric_type
  AND T.metric_key = S.metric_key
  AND T.client_agg_type = S.client_agg_type
  AND (S.app_id IS NULL OR T.app_id IS NULL OR T.app_id = S.app_id)
WHEN MATCHED THEN UPDATE SET
  total_users = S.total_users,
  histogram = S.histogram,
  percentiles = S.percentiles,
  non_norm_histogram = S.non_norm_histogram,
  non_norm_percentiles = S.non_norm_percentiles,
  total_sample = S.total_sample
WHEN NOT MATCHED BY TARGET THEN INSERT (
  app_id, channel, version, ping_type, os, build_id, build_date, metric, metric_type, metric_key, client_agg_type, total_users,
  histogram, percentiles, non_norm_histogram, non_norm_percentiles, total_sample
) VALUES (
  S.app_id, S.channel, S.version, S.ping_type, S.os, S.build_id, S.build_date, S.metric, S.metric_type, S.metric_key, S.client_agg_type,
  S.total_users, S.histogram, S.percentiles, S.non_norm_histogram, S.non_norm_percentiles, S.total_sample
)
