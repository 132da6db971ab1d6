-- Readers pass parameters in settings of their transaction, because COPY takes none: usage.after and usage.upto
-- (positions), usage.limit ('' for none), and for the filtered ones usage.types (comma-separated), usage.product,
-- usage.visitor, usage.since, usage.until ('' for any).

-- choose: sets these parameters.
SELECT set_config('usage.after', $1, true), set_config('usage.upto', $2, true), set_config('usage.limit', $3, true),
       set_config('usage.types', $4, true), set_config('usage.product', $5, true),
       set_config('usage.visitor', $6, true), set_config('usage.since', $7, true), set_config('usage.until', $8, true);

-- bound: the role $1 ('' for the login role itself) and the bound $2 in milliseconds of this transaction.
SELECT set_config('role', coalesce(nullif($1, ''), current_setting('role')), true),
       set_config('statement_timeout', $2, true), set_config('timezone', 'UTC', true);

-- lines: a range of positions of the log, a JSON object an event.
SELECT row_to_json(e) FROM (
    SELECT position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
           data, digest, recorded_at - occurred_at > interval '24 hours' AS late
    FROM event_log
    WHERE position > current_setting('usage.after')::bigint AND position <= current_setting('usage.upto')::bigint
    ORDER BY position
    LIMIT nullif(current_setting('usage.limit'), '')::bigint
) e;

-- filtered_lines: a range of positions of the log, a JSON object for each event that matches the filters.
SELECT row_to_json(e) FROM (
    SELECT position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
           data, digest, recorded_at - occurred_at > interval '24 hours' AS late
    FROM event_log
    WHERE position > current_setting('usage.after')::bigint AND position <= current_setting('usage.upto')::bigint
      AND (current_setting('usage.types') = '' OR type = ANY (string_to_array(current_setting('usage.types'), ',')))
      AND (current_setting('usage.product') = '' OR product = current_setting('usage.product'))
      AND (current_setting('usage.visitor') = '' OR visitor = nullif(current_setting('usage.visitor'), '')::uuid)
      AND occurred_at >= coalesce(nullif(current_setting('usage.since'), ''), '-infinity')::timestamptz
      AND occurred_at < coalesce(nullif(current_setting('usage.until'), ''), 'infinity')::timestamptz
    ORDER BY position
    LIMIT nullif(current_setting('usage.limit'), '')::bigint
) e;

-- columns: a range of positions of the log, as columns.
SELECT position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
       data, digest, recorded_at - occurred_at > interval '24 hours' AS late
FROM event_log
WHERE position > current_setting('usage.after')::bigint AND position <= current_setting('usage.upto')::bigint
ORDER BY position
LIMIT nullif(current_setting('usage.limit'), '')::bigint;

-- filtered_columns: a range of positions of the log, as columns of the events that match the filters.
SELECT position, event_id, type, schema_version, occurred_at, recorded_at, visitor, product, channel, probe, source,
       data, digest, recorded_at - occurred_at > interval '24 hours' AS late
FROM event_log
WHERE position > current_setting('usage.after')::bigint AND position <= current_setting('usage.upto')::bigint
  AND (current_setting('usage.types') = '' OR type = ANY (string_to_array(current_setting('usage.types'), ',')))
  AND (current_setting('usage.product') = '' OR product = current_setting('usage.product'))
  AND (current_setting('usage.visitor') = '' OR visitor = nullif(current_setting('usage.visitor'), '')::uuid)
  AND occurred_at >= coalesce(nullif(current_setting('usage.since'), ''), '-infinity')::timestamptz
  AND occurred_at < coalesce(nullif(current_setting('usage.until'), ''), 'infinity')::timestamptz
ORDER BY position
LIMIT nullif(current_setting('usage.limit'), '')::bigint;

-- end: the last position of the log.
SELECT last_position();

-- begin: the first position from which on the log holds every event.
SELECT whole_from();

-- whole: the position and the instant (null: any) from which on the log holds every event. An event occurred at most a day
-- after it was recorded.
SELECT b.position, (SELECT e.recorded_at + interval '1 day' FROM event_log e WHERE e.position >= b.position AND b.position > 1
                    ORDER BY e.position LIMIT 1) AS instant
FROM (SELECT whole_from()) b (position);

-- append_new: appends events of which none is known; the position of the first, or null where each has to be judged.
SELECT append_new_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- append: appends events, given as an array a column; for each, in order, its position and its outcome.
SELECT log_position, outcome FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- announce: wakes the listeners: the log has grown.
NOTIFY events_appended;

-- restorable: after which position events can be restored, and how far after the one before it each may be.
SELECT last_position(), largest_gap();

-- skipped: those of the positions $1 at which the log has no event, and no dropped one.
SELECT p FROM unnest($1::bigint[]) AS p
WHERE NOT EXISTS (SELECT FROM event_log e WHERE e.position = p) AND NOT EXISTS (SELECT FROM dropped_events d WHERE d.position = p);

-- restore: puts events back at their positions, given as an array a column; how many were not there yet.
SELECT restore_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);
