WITH received AS (
{{received}}
),
numbers AS (
{{numbers}}
),
origins AS (
{{origins}}
),
origin_units AS (  -- several texts of a system or a version are one origin
  SELECT DISTINCT
    origin, unit, build_hour
  FROM
    origins
),
pings AS (  -- without Windows clients that are not in the sample
  SELECT
    client, submission_day, origin,
    {{values}}
  FROM
    received
    INNER JOIN origins USING (ping_type, sent_os, sent_version, build_id)
    INNER JOIN numbers USING (client_id)
  WHERE
    NOT sampled
    OR sample_id < @windows_sample_ids
),
{{sent}},
builds AS (
{{builds}}
),
units AS (
  SELECT DISTINCT
    unit, place, build, ping_type, os, version, build_hour, client_weight, large_enough
  FROM
    origins
    INNER JOIN builds USING (build_hour)
)
