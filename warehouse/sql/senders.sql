-- Who sends a ping of some builds, when and in which situation: a third of the clients do, some of them twice.
CREATE OR REPLACE TABLE senders AS
SELECT
    made + to_seconds(CAST((ping >> 20) % seconds AS BIGINT)) AS submitted,
    client, client_id, sample_id, os, app_build, app_channel, versions[app_channel] AS version, provider, ping,
    4 * place + 2 * CAST(regressed AS INTEGER) + CAST(client < $rare AS INTEGER) AS situation
FROM (
    SELECT *, hash(client, build, $seed, $ping) % 100 AS chance, hash(client, build, nth, $seed, $ping) AS ping
    FROM clients CROSS JOIN builds CROSS JOIN range(2) AS pings(nth)
    WHERE build BETWEEN $first AND $last AND list_contains($channels::VARCHAR[], app_channel)
)
WHERE chance < if(nth = 0, 33, 8) OR (client < $rare AND nth = 0)
ORDER BY submitted, client, nth;
