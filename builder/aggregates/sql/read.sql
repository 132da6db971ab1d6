  submission_timestamp >= @since
  AND submission_timestamp < @until
  AND client_info.client_id IS NOT NULL
  AND COALESCE(LOWER(metadata.isp.name), '') != 'browserstack'
  AND {{of_channel}}
