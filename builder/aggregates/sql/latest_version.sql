-- The latest version where no release is known: the largest that more than @minimum_version_clients clients run.
SELECT
  MAX(version) AS version
FROM (
  SELECT
    version
  FROM (
{{versions}}
  )
  GROUP BY
    version
  HAVING
    COUNT(DISTINCT client_id) > @minimum_version_clients
)
