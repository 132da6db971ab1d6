-- unviewed: the probes of the catalogue that are not retired, were registered before $4, and were viewed by nobody from $3 to $4; of the
-- product $1 (null: of all), views in the channel $2 (null: in any). When a person last viewed each before, to the hour, and how often
-- bots viewed it in that time.
SELECT c.product, c.probe, c.metric_type, c.details -> 'owners' AS owners, c.details ->> 'expires' AS expires,
       coalesce(c.details -> 'disabled' = 'true', false) AS disabled, c.registered_at, c.built_at, viewed.hour AS last_viewed, coalesce(bots.views, 0) AS bot_views
FROM catalogue c
LEFT JOIN LATERAL (
    SELECT h.hour FROM probe_hours h
    WHERE h.product = c.product AND h.probe = c.probe AND h.hour < $4 AND NOT h.bot AND ($2::text IS NULL OR h.channel = $2)
    ORDER BY h.hour DESC LIMIT 1
) viewed ON true
LEFT JOIN LATERAL (
    SELECT sum(h.found + h.missing) AS views FROM probe_hours h
    WHERE h.product = c.product AND h.probe = c.probe AND h.hour >= $3 AND h.hour < $4 AND h.bot
      AND ($2::text IS NULL OR h.channel = $2)
) bots ON true
WHERE ($1::text IS NULL OR c.product = $1) AND c.metric_type IS NOT NULL AND c.registered_at < $4
  AND (c.retired_at IS NULL OR c.retired_at < c.described_at) AND (viewed.hour IS NULL OR viewed.hour < $3);

-- recorded_since: when the first view of any probe of the product $1 (null: of any) occurred, to the hour.
SELECT min(first.hour) FROM (SELECT DISTINCT c.product FROM catalogue c WHERE $1::text IS NULL OR c.product = $1) p
CROSS JOIN LATERAL (
    SELECT h.hour FROM probe_hours h WHERE h.product = p.product AND h.probe = '' ORDER BY h.hour LIMIT 1
) first;
