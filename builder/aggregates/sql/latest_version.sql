-- The latest version where no release is known: the largest that more than @minimum_version_clients clients run.
SELECT
  MAX(version) AS version
FROM (
  SELECT
    version
  FROM (
    SELECT
      client_id,
      {{version}} AS version
    FROM (
      SELECT
        client_id,
        sent_version,
        {{build_hour}} AS build_hour
      FROM (
{{versions}}
      )
    )
    {{build_versions}}
  )
  GROUP BY
    version
  HAVING
    COUNT(DISTINCT client_id) > @minimum_version_clients
)
