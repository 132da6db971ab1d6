-- What the mirror has of some loads: the events in each block of positions, and a hash of all that they say, in order.
SELECT
  load_after,
  DIV(position, @block) AS block,
  COUNT(*) AS events,
  TO_HEX(SHA256(STRING_AGG(
    CONCAT(
      CAST(position AS STRING), '|', event_id, '|', type, '|', CAST(schema_version AS STRING), '|',
      CAST(UNIX_MICROS(occurred_at) AS STRING), '|', CAST(UNIX_MICROS(recorded_at) AS STRING), '|',
      COALESCE(visitor, '\t'), '|', COALESCE(product, '\t'), '|', COALESCE(channel, '\t'), '|',
      COALESCE(probe, '\t'), '|', source, '|', data, '|', digest
    ),
    '\n' ORDER BY position
  ))) AS hashed
FROM `{{table}}`
WHERE day BETWEEN @first_day AND @last_day AND load_after BETWEEN @first AND @last
GROUP BY load_after, block
ORDER BY load_after, block
