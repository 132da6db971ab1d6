-- requested: asks for a night of the probes $3 of a product and channel, with the requests expected a day for each ($4), which may
-- read $5 bytes (null: what is left of the day): its id, and whether it is new.
SELECT night_id, is_new FROM request_night($1, $2, $3, $4, $5, $6);

-- outcomes: the number of probes of the night $1 with each outcome.
SELECT outcome, count(*) AS probes FROM night_probes WHERE night_id = $1 GROUP BY outcome;

-- cancelled: cancels a night; the state that it was in before.
SELECT cancel_night($1, $2);

-- page: nights after the one that was requested at $4 with the id $5 (null: from the newest), of a state, product and channel, or with
-- the ids $6 (null: any). The seconds left are told while it runs, once a twentieth of what its jobs are expected to read is done.
SELECT n.night_id, n.product, n.channel, n.source, n.state, n.run_date, n.most_bytes, n.error, n.requested_at, n.finished_at,
       to_jsonb(t) - 'night_id' AS totals,
       CASE n.state WHEN 'running' THEN night_seconds_left(n.night_id) END AS seconds_left
FROM (
    SELECT * FROM nights
    WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR product = $2) AND ($3::text IS NULL OR channel = $3)
      AND requested_at <= coalesce($4::timestamptz, 'infinity')
      AND ($4::timestamptz IS NULL OR requested_at < $4 OR night_id > $5::uuid)
      AND ($6::uuid[] IS NULL OR night_id = ANY ($6))
    ORDER BY requested_at DESC, night_id LIMIT $7
) n
JOIN night_totals t USING (night_id)
ORDER BY n.requested_at DESC, n.night_id;

-- jobs: the newest thousand jobs of each of the nights $1, in the order in which they were queued.
SELECT * FROM (
    SELECT night_id, job_id, split_from, state, cardinality(builds) AS probes, attempt, max_attempts, stage, percent, expected_bytes,
           bytes, error, queued_at, started_at, finished_at,
           row_number() OVER (PARTITION BY night_id ORDER BY queued_at DESC, job_id DESC) AS number
    FROM shared_jobs WHERE night_id = ANY ($1::uuid[])
) newest
WHERE number <= 1000 ORDER BY queued_at, job_id;

-- probes: up to $4 probes of the night $1 after the place $3, with an outcome (null: any).
SELECT p.place, p.probe, p.outcome, p.requests, p.bytes, p.build_id, b.state, b.rows, b.error, b.finished_at
FROM night_probes p LEFT JOIN builds b USING (build_id)
WHERE p.night_id = $1 AND ($2::text IS NULL OR p.outcome = $2) AND p.place > $3
ORDER BY p.place LIMIT $4;

-- under_way: the nights that are not over, by state: their number, the probes that they are to build still, and the seconds since the
-- first was requested, and since the one that has shown none for longest showed progress: a job was queued, begun or ended, or a build
-- of it ended.
SELECT n.state, count(*) AS nights, sum(t.to_build)::bigint AS to_build,
       extract(epoch FROM current_instant() - min(n.requested_at))::float8 AS oldest_seconds,
       extract(epoch FROM current_instant() - min(greatest(n.requested_at, j.latest, b.latest)))::float8 AS idle_seconds
FROM nights n
JOIN night_totals t USING (night_id)
CROSS JOIN LATERAL (
    SELECT max(greatest(s.queued_at, s.started_at, s.finished_at)) AS latest FROM shared_jobs s WHERE s.night_id = n.night_id
) j
CROSS JOIN LATERAL (
    SELECT max(o.finished_at) AS latest FROM night_probes p JOIN builds o USING (build_id) WHERE p.night_id = n.night_id
) b
WHERE n.state <> 'over'
GROUP BY n.state;
