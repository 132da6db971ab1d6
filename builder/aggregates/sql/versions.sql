-- The pings of one type by client, with what tells their version.
SELECT
  client_info.client_id AS client_id,
  {{sent_version}} AS sent_version,
  {{build_id}} AS build_id
FROM
  `{{table}}`
WHERE
{{read}}
