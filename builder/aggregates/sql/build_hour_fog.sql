IF(
        REGEXP_CONTAINS(build_id, '^[0-9]{8}([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]$'),
        SUBSTR(build_id, 1, 10),
        NULL
      )
