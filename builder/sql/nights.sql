-- claim_night: gives the worker $1 a night to plan for a lease of $2; only the night $3, unless that is null.
SELECT * FROM claim_night($1, $2, $3);

-- candidates: the probes of the night $1 that are to be planned, in their order, with what the catalogue knows of them.
SELECT p.probe, p.requests, c.metric_type, c.pings, c.definition
FROM night_probes p JOIN nights n USING (night_id) JOIN catalogue c ON c.product = n.product AND c.probe = p.probe
WHERE p.night_id = $1 AND p.outcome = 'listed' AND p.build_id IS NULL
ORDER BY p.place;

-- heartbeat_night: renews the lease $3 of the night $1, which is planned at the attempt $2.
SELECT heartbeat_night($1, $2, $3);

-- queue_shared_job: queues a job of the night $1, planned at the attempt $2: the probes $3, the bytes $4 that each adds (null: not
-- known), the bytes $5 of all of it.
SELECT queue_shared_job($1, $2, $3, $4, $5);

-- complete_planning: ends the planning of the night $1 at the attempt $2; the probes $3 are left, which would add the bytes $4.
SELECT complete_planning($1, $2, $3, $4);

-- fail_planning: ends the attempt $2 at planning the night $1, with the error code $3 and message $4, to be tried again after $5 (null:
-- never); what became of it.
SELECT fail_planning($1, $2, $3, $4, $5);

-- hand_back_night: lets another worker plan the night $1, whose attempt $2 does not count.
SELECT hand_back_night($1, $2);

-- claim_jobs: gives up to $3 shared jobs to the worker $1 for a lease of $2, of the night $4 unless that is null; with what their
-- night asks for.
SELECT j.*, n.product, n.channel, n.run_date, n.latest_version
FROM claim_shared_jobs($1, $2, $3, $4) j JOIN nights n USING (night_id);

-- members: the builds of the shared job $1, in the order of its statements; `is_waiting`: whether the job is to end it.
SELECT b.build_id, b.probe, b.metric_type, b.pings, b.definition, b.state = 'queued' AND b.shared_job = j.job_id AS is_waiting
FROM shared_jobs j CROSS JOIN unnest(j.builds) WITH ORDINALITY AS m (build_id, place) JOIN builds b ON b.build_id = m.build_id
WHERE j.job_id = $1
ORDER BY m.place;

-- heartbeat_job: renews the lease $3 of the shared job $1 at its attempt $2, and notes its stage $4, its percent $5 and the bytes read
-- so far $6 (null: as before).
SELECT heartbeat_shared_job($1, $2, $3, $4, $5, $6);

-- account: counts the $5 bytes of the warehouse's job $4, which the shared job $1 is to begin or to adopt at its attempt $2, of $7 a day;
-- $6 of the attempt so far. Renews the lease $3. How many are left where these are too many. $7 null: it is over and has read so many.
SELECT account_shared_job($1, $2, $3, $4, $5, $6, $7);

-- complete_without_rows: ends the builds $3 of the shared job $1 at its attempt $2, each with its share $4 of the bytes.
SELECT complete_shared_builds($1, $2, $3, $4);

-- fail_build: fails the build $3 of the shared job $1 at its attempt $2, with the error code $4 and message $5.
SELECT fail_shared_build($1, $2, $3, $4, $5);

-- complete_job: ends the shared job $1 at its attempt $2, which read the bytes $3.
SELECT complete_shared_job($1, $2, $3);

-- fail_job: ends the attempt $2 of the shared job $1 with the error code $3 and message $4, to be tried again after $5 (null: never);
-- what became of it.
SELECT fail_shared_job($1, $2, $3, $4, $5);

-- hand_back_job: queues the shared job $1 again, whose attempt $2 does not count.
SELECT hand_back_shared_job($1, $2);

-- expire_lease: takes one shared job from a worker that was not heard of any more; whether there was one.
SELECT expire_shared_lease();

-- end_nights: ends the nights that have no job left; how many.
SELECT end_nights();

-- night: the night $1 in numbers.
SELECT n.state, n.error, n.product, n.channel, n.requested_at, n.finished_at, t.*
FROM nights n JOIN night_totals t USING (night_id) WHERE n.night_id = $1;

-- not_built: the probes of the night $1 that failed, with their errors, those that were left, with the bytes that they would add, and
-- those that cannot be built.
SELECT p.probe, p.outcome, p.bytes, b.error ->> 'code' AS code, b.error ->> 'message' AS message
FROM night_probes p LEFT JOIN builds b USING (build_id)
WHERE p.night_id = $1 AND (p.outcome IN ('left', 'unknown', 'unbuildable', 'excluded') OR b.state = 'failed')
ORDER BY p.outcome, p.place;
