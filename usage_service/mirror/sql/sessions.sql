-- The view of analysts: sessions, as the answers of the service have them.
SELECT
  visitor, DATE(started_at) AS day, started_at, ended_at, events, bot,
  first_view.page AS first_page, last_view.page AS last_page, first_view.referrer AS referrer, came_from, tools_left,
  products, probes, controls, role
FROM (
{{sessions}}
)
