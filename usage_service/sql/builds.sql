-- requested: requests a build of a probe; the outcome and the build.
SELECT outcome, build_id, metric_type FROM request_build($1, $2, $3, $4, in_trace => $5);

-- requested_once: requests a build under the idempotency key $1.
SELECT outcome, build_id, metric_type FROM request_build_once($1, $2, $3, $4, $5, $6);

-- requested_by_miss: a build because the data of $1, $2, $3 was asked for by the visitor $4 (null: any) and not there, within the limits
-- of a day of $5 builds and $6 bytes. $7 source, $8 trace.
SELECT * FROM request_missed_build($1, $2, $3, $4, $5, $6, $7, $8);

-- traceparent: the trace of the request that created the build $1.
SELECT traceparent FROM builds WHERE build_id = $1;

-- cancelled: cancels a build; the state that it was in before.
SELECT cancel_build($1, $2);

-- retried: queues a failed build again; the outcome.
SELECT retry_build($1, $2);

-- some: builds by their ids.
SELECT build_id, product, channel, probe, metric_type, state, attempt, max_attempts, stage, percent, bytes, rows, error,
       requested_at, started_at, finished_at, log_position, deliveries_of(builds) AS deliveries, (
           SELECT jsonb_build_object('job_id', j.job_id, 'night_id', j.night_id, 'state', j.state, 'percent', j.percent)
           FROM shared_jobs j WHERE j.job_id = shared_job
       ) AS shared_job
FROM builds WHERE build_id = ANY ($1::uuid[]);

-- page: builds after the one that was requested at $5 with the id $6 (null: from the newest), of a state, product, channel and
-- probe (null: any).
SELECT build_id, product, channel, probe, metric_type, state, attempt, max_attempts, stage, percent, bytes, rows, error,
       requested_at, started_at, finished_at, log_position, deliveries_of(builds) AS deliveries, (
           SELECT jsonb_build_object('job_id', j.job_id, 'night_id', j.night_id, 'state', j.state, 'percent', j.percent)
           FROM shared_jobs j WHERE j.job_id = shared_job
       ) AS shared_job
FROM builds
WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR product = $2) AND ($3::text IS NULL OR channel = $3)
  AND ($4::text IS NULL OR probe = $4)
  AND requested_at <= coalesce($5::timestamptz, 'infinity')
  AND ($5::timestamptz IS NULL OR requested_at < $5 OR build_id > $6::uuid)
ORDER BY requested_at DESC, build_id LIMIT $7;

-- events: the state of the build $1 and the position of its last event, with its events after the position $2, at most $3: of one instant.
SELECT b.state, b.log_position, e.*
FROM builds b LEFT JOIN LATERAL (
    SELECT position, type, occurred_at, data FROM event_log
    WHERE type LIKE 'build\_%' AND data ->> 'build_id' = $1::text AND position > $2
    ORDER BY position LIMIT $3
) e ON true
WHERE b.build_id = $1::uuid ORDER BY e.position;

-- seconds_left: the seconds, 1 to 60, after which to poll the build $1 again: what such builds took lately (the median of its
-- metric type, else of all, else $2) less what it has waited; when that is over, a tenth of the time since its last event. A
-- queued build has waited since it could be claimed. One that a shared job is to end goes by the night, once that is known.
WITH recent_builds AS (
    SELECT b.metric_type, extract(epoch FROM b.finished_at - b.requested_at) AS seconds
    FROM (SELECT * FROM builds WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 200) b
    WHERE b.state IN ('succeeded', 'no_data') AND NOT b.prefetched
), this_build AS (
    SELECT b.metric_type,
           extract(epoch FROM current_instant() - CASE b.state WHEN 'queued' THEN b.not_before ELSE b.requested_at END) AS waited,
           extract(epoch FROM current_instant() - CASE b.state WHEN 'queued' THEN b.not_before ELSE e.recorded_at END) AS idle,
           j.job_id IS NOT NULL AS is_shared, night_seconds_left(j.night_id, j.job_id) AS of_night
    FROM builds b
    LEFT JOIN event_log e ON e.position = b.log_position
    LEFT JOIN shared_jobs j ON j.job_id = b.shared_job AND (j.state = 'running' OR j.state = 'queued' AND b.prefetched)
    WHERE b.build_id = $1
)
SELECT ceil(least(60, greatest(1, CASE WHEN w.is_shared THEN coalesce(w.of_night, w.idle / 10) ELSE greatest(w.idle / 10, coalesce(
           percentile_cont(0.5) WITHIN GROUP (ORDER BY r.seconds) FILTER (WHERE r.metric_type = w.metric_type),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY r.seconds),
           $2::float8) - w.waited) END)))::integer
FROM this_build w LEFT JOIN recent_builds r ON true
GROUP BY w.waited, w.idle, w.metric_type, w.is_shared, w.of_night;

-- near_names: probes of the catalogue with a similar name, nearest first.
SELECT probe FROM catalogue
WHERE product = $1 AND metric_type IS NOT NULL AND NOT EXISTS (SELECT FROM hidden_by(product, probe))
ORDER BY probe <-> $2, probe LIMIT 5;

-- queue: the number and cost of the builds in each state.
SELECT state, prefetched, builds, attempts, coalesce(bytes, 0)::float8 AS bytes, oldest_seconds FROM build_queue;

-- builders: how many builders showed life within half a minute; how many seconds ago one last did, null where none did for a day.
SELECT count(*) FILTER (WHERE seen_at > current_instant() - interval '30 seconds') AS alive,
       extract(epoch FROM current_instant() - max(seen_at))::float8 AS last_seen_seconds
FROM builders WHERE seen_at > current_instant() - interval '1 day';

-- sinks: what each sink lacks of each channel.
SELECT sink, product, channel, failures, error, waiting, overdue_seconds FROM sink_status ORDER BY sink, product, channel;

-- waiting: how many builds are claimed before the build $1; the seconds that one of them takes, as the median of the last builds; and
-- those that this one takes, as it did last, else as they do. Null where nothing tells.
WITH recent AS (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM b.finished_at - b.started_at))::float8 AS seconds
    FROM (SELECT * FROM builds WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 200) b
    WHERE b.state IN ('succeeded', 'no_data') AND b.started_at IS NOT NULL
)
SELECT (
           SELECT count(*) FROM builds q
           WHERE q.state = 'queued' AND q.not_before <= current_instant()
             AND (q.prefetched, q.not_before) < (b.prefetched, b.not_before)
             AND NOT EXISTS (
                 SELECT FROM shared_jobs j
                 WHERE j.job_id = q.shared_job AND (j.state = 'running' OR j.state = 'queued' AND q.prefetched))
       ) AS ahead,
       recent.seconds AS typical_seconds,
       coalesce((
           SELECT c.seconds FROM build_costs c
           WHERE c.product = b.product AND c.channel = b.channel AND c.probe = b.probe AND c.seconds IS NOT NULL
           ORDER BY c.day DESC LIMIT 1
       ), recent.seconds) AS own_seconds
FROM builds b CROSS JOIN recent WHERE b.build_id = $1;
