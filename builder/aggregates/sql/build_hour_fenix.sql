CASE
        -- 8 digits: the years since 2018, the day of the year, the hour and the minute.
        WHEN REGEXP_CONTAINS(build_id, '^[0-9]{4}([01][0-9]|2[0-3])[0-5][0-9]$')
          AND SAFE_CAST(SUBSTR(build_id, 2, 3) AS INT64) BETWEEN 1 AND DATE_DIFF(
            DATE(2019 + SAFE_CAST(SUBSTR(build_id, 1, 1) AS INT64), 1, 1),
            DATE(2018 + SAFE_CAST(SUBSTR(build_id, 1, 1) AS INT64), 1, 1),
            DAY
          )
          THEN CONCAT(
            FORMAT_DATE(
              '%Y%m%d',
              DATE_ADD(
                DATE(2017 + SAFE_CAST(SUBSTR(build_id, 1, 1) AS INT64), 12, 31),
                INTERVAL SAFE_CAST(SUBSTR(build_id, 2, 3) AS INT64) DAY
              )
            ),
            SUBSTR(build_id, 5, 2)
          )
        -- 10 digits: the hours since 2014-12-28 in 17 bits, above three other bits.
        WHEN REGEXP_CONTAINS(build_id, '^[0-9]{10}$')
          THEN FORMAT_TIMESTAMP(
            '%Y%m%d%H',
            TIMESTAMP_ADD(
              TIMESTAMP('2014-12-28 00:00:00+00:00'),
              INTERVAL ((SAFE_CAST(build_id AS INT64) >> 3) & 131071) HOUR
            )
          )
      END
