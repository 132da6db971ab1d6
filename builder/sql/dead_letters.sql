-- failed: the last thousand builds that failed for good and were not asked for again since, the newest first.
SELECT b.build_id, b.product, b.channel, b.probe, b.attempt, b.finished_at, b.error ->> 'code' AS code,
       b.error ->> 'message' AS message
FROM builds b
WHERE b.state = 'failed' AND NOT EXISTS (
    SELECT FROM builds later
    WHERE (later.product, later.channel, later.probe) = (b.product, b.channel, b.probe)
      AND later.requested_at > b.requested_at)
ORDER BY b.finished_at DESC
LIMIT 1000;

-- retry: queues the failed build $1 again in the name of $2; what became of that.
SELECT retry_build($1, $2);
