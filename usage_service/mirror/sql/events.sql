-- The view of analysts: events as the current schema versions have them.
SELECT
  position, day, occurred_at, recorded_at, event_id, type,
  {{schema_version}} AS schema_version,
  visitor, product, channel, probe, source,
  {{data}} AS data,
  UNIX_MICROS(recorded_at) - UNIX_MICROS(occurred_at) > 86400000000 AS late
FROM `{{table}}`
