-- The version of each client, by the pings of one type.
SELECT
  client_info.client_id AS client_id,
  {{version}} AS version
FROM
  `{{table}}`
WHERE
  submission_timestamp >= @since
  AND submission_timestamp < @until
  AND client_info.client_id IS NOT NULL
  AND client_info.app_channel = @channel
  AND COALESCE(LOWER(metadata.isp.name), '') != 'browserstack'
