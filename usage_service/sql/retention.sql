-- old_range: the first position of the log, and the last that was recorded before $1 as all those before it; nulls where there is
-- none.
SELECT min(e.position) AS first, max(e.position) AS last
FROM event_log e
WHERE e.position < coalesce(
    (SELECT l.position FROM event_log l WHERE l.recorded_at >= $1 ORDER BY l.position LIMIT 1), last_position() + 1);

-- drop: exported events; how many. $1 rows of event_log.
SELECT drop_events($1::event_log[]);

-- put_back: events that were dropped; how many. $1 rows of event_log.
SELECT put_back_events($1::event_log[]);

-- record: what was done, as an event. $1 its type, $2 who, $3 its data.
SELECT append_own_event($1, NULL, NULL, NULL, $2, $3), pg_notify('events_appended', '');

-- dropped_range: the first and the last position that was dropped and is not back; nulls where there is none.
SELECT min(position) AS first, max(position) AS last FROM dropped_events;
