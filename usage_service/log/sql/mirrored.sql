-- Events of some loads of the mirror, after a position up to another, that match the filters.
SELECT
  position, event_id, type, schema_version, UNIX_MICROS(occurred_at) AS occurred_at, UNIX_MICROS(recorded_at) AS recorded_at,
  visitor, product, channel, probe, source, data, digest
FROM `{{table}}`
WHERE day BETWEEN @first_day AND @last_day AND load_after BETWEEN @first AND @last
  AND position > @after AND position <= @upto
  AND (@types IS NULL OR type IN UNNEST(SPLIT(@types, ',')))
  AND (@product IS NULL OR product = @product)
  AND (@visitor IS NULL OR visitor = @visitor)
  AND (@since IS NULL OR occurred_at >= @since)
  AND (@until IS NULL OR occurred_at < @until)
ORDER BY position
LIMIT @most
