-- requested: asks for a probe; what became of it and which build to look at.
SELECT outcome, build_id, metric_type FROM request_build($1, $2, $3, $4);

-- one: a build by its id.
SELECT build_id, product, channel, probe, metric_type, state, attempt, max_attempts, stage, percent, bytes, rows, error,
       requested_at, started_at, finished_at, log_position
FROM builds WHERE build_id = $1;

-- typical_seconds: how long recent builds of this metric type took from request to end, or null.
SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - requested_at))
FROM (
    SELECT finished_at, requested_at FROM builds
    WHERE metric_type = $1 AND state = 'succeeded' ORDER BY finished_at DESC LIMIT 20
) recent;

-- near_names: probes of the catalogue with a similar name, nearest first.
SELECT probe FROM catalogue
WHERE product = $1 AND metric_type IS NOT NULL
ORDER BY probe <-> $2, probe LIMIT 5;
