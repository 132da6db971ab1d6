-- How often a ping of each day takes which draw of a metric type.
INSERT INTO taken
SELECT '{kind}', CAST(submitted AS DATE) AS day, {place} AS place, count(*)
FROM senders
GROUP BY day, place;
