ARRAY(
      SELECT ROUND(100 * POW(2, (last - first) / 100 * number)) / 100
      FROM UNNEST(GENERATE_ARRAY(0, 99)) AS number
      WHERE first < last
    )
