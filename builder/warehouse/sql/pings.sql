-- The pings of some builds: a third of the clients send one of each, sorted by time. One in 200 has lost its client id.
INSERT INTO "{schema}"."{table}"
WITH drawn AS (
    SELECT *, hash(client, build, $seed) AS ping
    FROM clients CROSS JOIN builds
    WHERE build BETWEEN $first AND $last
)
SELECT
    made + to_seconds(CAST((ping >> 20) % seconds AS BIGINT)),
    sample_id,
    {
        'client_id': CASE WHEN ping % 200 > 0 THEN client_id END,
        'os': os,
        'app_build': app_build,
        'app_channel': app_channel,
        'app_display_version': CASE app_channel WHEN 'beta' THEN beta ELSE nightly END
    },
    {'isp': {'name': provider}},
    {metrics}
FROM drawn
WHERE ping % 100 < 33 OR client < 6
ORDER BY 1, client;
