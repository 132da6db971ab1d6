-- known: what the last build of each probe and channel of the product $1 (null: of all) cost, up to the day $2.
SELECT DISTINCT ON (product, channel, probe) product, channel, probe, bytes, seconds FROM build_costs
WHERE ($1::text IS NULL OR product = $1) AND day <= $2
ORDER BY product DESC, channel DESC, probe DESC, day DESC;

-- types: the metric types of the probes of the product $1 (null: of all), as arrays.
SELECT array_agg(product) AS products, array_agg(probe) AS probes, array_agg(metric_type) AS metric_types FROM catalogue
WHERE ($1::text IS NULL OR product = $1) AND metric_type IS NOT NULL;
