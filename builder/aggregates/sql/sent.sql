WITH received AS (
{{received}}
),
origins AS (
{{origins}}
),
pings AS (  -- without Windows clients that are not in the sample
  SELECT
    client_id, submission_day, origin, unit, place, build_hour, probes
  FROM
    received
    INNER JOIN origins USING (ping_type, sent_os, sent_version, build_id)
  WHERE
    NOT sampled
    OR sample_id < @windows_sample_ids
),
builds AS (
{{builds}}
),
units AS (
  SELECT DISTINCT
    unit, ping_type, os, version, build_hour, client_weight, large_enough
  FROM
    origins
    INNER JOIN builds USING (build_hour)
),
sent AS (
{{sent}}
)
