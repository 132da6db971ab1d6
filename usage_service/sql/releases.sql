-- published: the latest releases in a time range. $1 since, $2 until, $3 product or null, $4 channel or null, $5 limit.
SELECT product, channel, version, published_at FROM releases
WHERE published_at >= $1 AND published_at < $2 AND ($3::text IS NULL OR product = $3) AND ($4::text IS NULL OR channel = $4)
ORDER BY published_at DESC, product, channel, version DESC
LIMIT $5;

-- daily: views that people made of all probes together by product, channel and UTC day, of pairs of products and channels.
SELECT product, channel, utc_day(hour) AS day, sum(found + missing)::float8 AS views
FROM probe_hours
WHERE probe = '' AND NOT bot AND (product, channel) IN (SELECT * FROM unnest($1::text[], $2::text[]))
GROUP BY product, channel, day;
