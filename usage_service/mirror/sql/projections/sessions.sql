-- Sessions: what a visitor did without a pause.
SELECT TO_JSON_STRING(STRUCT(
  visitor, UNIX_MICROS(started_at) AS started_at, UNIX_MICROS(ended_at) AS ended_at, events, bot,
  UNIX_MICROS(first_view.occurred_at) AS entry_at, first_view.event_id AS entry_id,
  first_view.page AS entry_page, first_view.referrer AS entry_referrer,
  UNIX_MICROS(last_view.occurred_at) AS exit_at, last_view.event_id AS exit_id,
  last_view.page AS exit_page, last_view.referrer AS exit_referrer,
  products, probes, controls, tools_left, came_from
)) AS line
FROM (
{{sessions}}
)
