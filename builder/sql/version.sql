COALESCE(SAFE_CAST(REGEXP_EXTRACT(client_info.app_display_version, '^([0-9]{1,9})(?:[.]|$)') AS INT64), 0)
