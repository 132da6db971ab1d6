IF(
        REGEXP_CONTAINS(client_info.app_build, '^[0-9]{8}([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]$'),
        SUBSTR(client_info.app_build, 1, 10),
        NULL
      )
