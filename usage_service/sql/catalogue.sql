-- products: every product that a probe was registered or viewed of, the one with the most probes first.
SELECT product FROM (
    SELECT product, count(*) AS probes FROM catalogue GROUP BY product
    UNION ALL
    SELECT product, count(*) FROM popularity_series GROUP BY product
) p GROUP BY product ORDER BY sum(probes) DESC, product;

-- channels: every channel of a product that a view or a release named.
SELECT product, array_agg(channel ORDER BY channel) AS channels FROM (
    SELECT product, channel FROM probe_hours WHERE probe = '' AND channel <> ''
    UNION
    SELECT product, channel FROM releases
) named GROUP BY product;

-- search: probes that are not hidden of a product ($1, or null for all) whose name contains $2 or is similar to it, those that begin with it first: $3 of them after the first $4.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, coalesce(m.buildable, false) AS buildable
FROM catalogue c LEFT JOIN metric_types m USING (metric_type)
WHERE c.metric_type IS NOT NULL AND ($1::text IS NULL OR c.product = $1) AND (position(lower($2) IN lower(c.probe)) > 0 OR c.probe % $2)
  AND NOT EXISTS (SELECT FROM hidden_by(c.product, c.probe))
ORDER BY position(lower($2) IN lower(c.probe)) = 0, position(lower($2) IN lower(c.probe)), c.probe <-> $2, c.product, c.probe
LIMIT $3 OFFSET $4;

-- entry: one probe.
SELECT c.product, c.probe, c.metric_type, c.pings, c.registered_at, coalesce(c.retired_at >= c.described_at, false) AS retired,
       c.built_at, coalesce(m.buildable, false) AND hiding.pattern IS NULL AS buildable, hiding.pattern AS hidden_by,
       c.definition -> 'labels' AS labels, c.details ->> 'description' AS description, c.details -> 'owners' AS owners,
       c.details ->> 'expires' AS expires, coalesce(c.details -> 'disabled' = 'true', false) AS disabled, c.details ->> 'link' AS link,
       c.details ->> 'time_unit' AS time_unit, c.details ->> 'memory_unit' AS memory_unit, c.details ->> 'unit' AS unit
FROM catalogue c LEFT JOIN metric_types m USING (metric_type)
     LEFT JOIN LATERAL (SELECT pattern FROM hidden_by(c.product, c.probe) LIMIT 1) hiding ON true
WHERE c.product = $1 AND c.probe = $2;

-- viewed_counts: how many probes of a product there are, and how many of them a person ever viewed.
SELECT count(*) AS probes, count(s.series) AS ever_viewed
FROM catalogue c LEFT JOIN popularity_series s ON s.product = c.product AND s.probe = c.probe AND NOT s.bot
WHERE c.product = $1 AND c.metric_type IS NOT NULL AND (c.retired_at IS NULL OR c.retired_at < c.described_at);
