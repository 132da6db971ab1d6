SELECT
  client, origin,
  COUNT(*) AS occurrences,
  [
    {{days}}
  ] AS probes
FROM
  pings
GROUP BY
  client, submission_day, origin
