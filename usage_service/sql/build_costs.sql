-- known: what the last build of each probe and channel of the product $1 (null: of all) cost, up to the day $2.
SELECT DISTINCT ON (product, channel, probe) product, channel, probe, bytes, seconds FROM build_costs
WHERE ($1::text IS NULL OR product = $1) AND day <= $2
ORDER BY product DESC, channel DESC, probe DESC, day DESC;

-- changed: the same of those whose builds ended with events after the position $3, up to $4.
SELECT b.* FROM (
    SELECT DISTINCT e.product, e.channel, e.probe FROM event_log e
    WHERE e.position > $3 AND e.position <= $4 AND e.type IN ('build_succeeded', 'build_found_no_data')
      AND ($1::text IS NULL OR e.product = $1)
) e
CROSS JOIN LATERAL (
    SELECT c.product, c.channel, c.probe, c.bytes, c.seconds FROM build_costs c
    WHERE c.product = e.product AND c.channel = e.channel AND c.probe = e.probe AND c.day <= $2
    ORDER BY c.day DESC LIMIT 1
) b;

-- types: the metric types of the probes of the product $1 (null: of all), as arrays.
SELECT array_agg(product) AS products, array_agg(probe) AS probes, array_agg(metric_type) AS metric_types FROM catalogue
WHERE ($1::text IS NULL OR product = $1) AND metric_type IS NOT NULL;
