  SELECT
    *,
    -- The number of the product's probe, as people or as bots view it: the first 64 bits of a hash.
    (CAST(CONCAT('0x', SUBSTR(digits, 1, 8)) AS INT64) - IF(SUBSTR(digits, 1, 1) >= '8', 4294967296, 0)) * 4294967296
      + CAST(CONCAT('0x', SUBSTR(digits, 9, 8)) AS INT64) AS series
  FROM (
    SELECT *, TO_HEX(MD5(CONCAT(product, ' ', probe, IF(bot, ' bot', '')))) AS digits
    FROM (
      SELECT
        day, product, probe, COALESCE(channel, '') AS channel, visitor,
        IF(JSON_VALUE(data, '$.bot') = 'true', JSON_QUERY(data, '$.bot') = 'true', FALSE) AS bot,
        CAST(JSON_QUERY(data, '$.found') AS BOOL) AS found,
        -- Since a Monday: buckets of weeks may begin before the first day that a DATE can be.
        DATE_DIFF(DATE(occurred_at), DATE '2000-01-03', DAY) AS number
      FROM {{events}}
      WHERE type = 'probe_viewed'
    )
  )
