-- The number of pings of each day that take a draw of a metric type.
INSERT INTO taken
SELECT '{{kind}}', CAST(submitted AS DATE) AS day, {{place}} AS place, count(*)
FROM senders
GROUP BY day, place;
