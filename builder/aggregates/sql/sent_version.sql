COALESCE(SAFE_CAST(REGEXP_EXTRACT(sent_version, '^([0-9]{1,9})(?:[.]|$)') AS INT64), 0)
