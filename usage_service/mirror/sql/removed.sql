-- Deletes what a load brought, before it is made again.
DELETE FROM `{{table}}`
WHERE day BETWEEN @first_day AND @last_day AND load_after BETWEEN @first AND @last
