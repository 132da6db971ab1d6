-- news: what happened to probes, newest first. $1 product and $2 probe (null: of any), $3 kinds, $4 now, $5 instant and $6 key of the
-- last entry of the page before (null: from the newest on), $7 how many, $8 for how long a probe goes unviewed until that is news.
-- A key names the same news for ever: it is made of events, not of the rows of a projection.
SELECT * FROM (
    (SELECT 'built' AS kind, 'built ' || b.build_id AS key, b.finished_at AS at, b.product, b.channel, b.probe, b.rows, b.bytes,
            NULL::timestamptz AS viewed_at, NULL AS projection, NULL::bigint AS position, NULL AS error
     FROM builds b
     WHERE 'built' = ANY ($3) AND b.state = 'succeeded' AND b.finished_at IS NOT NULL AND ($1::text IS NULL OR b.product = $1) AND ($2::text IS NULL OR b.probe = $2)
       AND b.finished_at <= coalesce($5::timestamptz, 'infinity')
       AND ($5::timestamptz IS NULL OR (b.finished_at, 'built ' || b.build_id) < ($5, $6::text))
     ORDER BY b.finished_at DESC, key DESC LIMIT $7)
    UNION ALL
    (SELECT 'built', key, c.built_at, c.product, NULL, c.probe, NULL, NULL, NULL, NULL, NULL, NULL
     FROM catalogue c CROSS JOIN LATERAL (
         SELECT format('built by the ETL %s %s %s', c.product, c.probe, extract(epoch FROM c.built_at)) AS key
     ) named
     WHERE 'built' = ANY ($3) AND c.built_at IS NOT NULL AND ($1::text IS NULL OR c.product = $1) AND ($2::text IS NULL OR c.probe = $2)
       AND ($5::timestamptz IS NULL OR (c.built_at, key) < ($5, $6::text)) AND NOT EXISTS (SELECT FROM hidden_by(c.product, c.probe))
     ORDER BY c.built_at DESC, key DESC LIMIT $7)
    UNION ALL
    (SELECT 'unviewed', key, since.instant + $8, c.product, NULL, c.probe, NULL, NULL, viewed.hour, NULL, NULL, NULL
     FROM catalogue c
     LEFT JOIN LATERAL (
         SELECT h.hour FROM probe_hours h
         WHERE h.product = c.product AND h.probe = c.probe AND NOT h.bot ORDER BY h.hour DESC LIMIT 1
     ) viewed ON true
     CROSS JOIN LATERAL (SELECT greatest(c.registered_at, viewed.hour + interval '1 hour') AS instant) since
     CROSS JOIN LATERAL (SELECT format('unviewed %s %s %s', c.product, c.probe, extract(epoch FROM since.instant)) AS key) named
     WHERE 'unviewed' = ANY ($3) AND since.instant + $8 <= $4 AND c.metric_type IS NOT NULL
       AND ($1::text IS NULL OR c.product = $1) AND ($2::text IS NULL OR c.probe = $2)
       AND (c.retired_at IS NULL OR c.retired_at < c.described_at) AND NOT EXISTS (SELECT FROM hidden_by(c.product, c.probe))
       AND ($5::timestamptz IS NULL OR (since.instant + $8, key) < ($5, $6::text))
     ORDER BY since.instant DESC, key DESC LIMIT $7)
    UNION ALL
    (SELECT 'set_aside', key, d.set_aside_at, e.product, e.channel, e.probe, NULL, NULL, NULL, d.projection, d.position, d.error
     FROM dead_letters d LEFT JOIN event_log e USING (position)
     CROSS JOIN LATERAL (SELECT format('set aside %s %s', d.projection, d.position) AS key) named
     WHERE 'set_aside' = ANY ($3) AND d.stage = 'live' AND ($1::text IS NULL OR e.product IS NULL OR e.product = $1)
       AND ($2::text IS NULL OR e.probe = $2) AND ($5::timestamptz IS NULL OR (d.set_aside_at, key) < ($5, $6::text))
     ORDER BY d.set_aside_at DESC, key DESC LIMIT $7)
) news ORDER BY at DESC, key DESC LIMIT $7;

-- channels: those on which the probe $2 of the product $1 has rows.
SELECT DISTINCT channel FROM probe_rows WHERE product = $1 AND probe = $2 ORDER BY channel;

-- revision: what changes with news that are not in a projection.
SELECT (SELECT max(finished_at) FROM builds WHERE finished_at IS NOT NULL) AS built_at,
       (SELECT count(*) FROM dead_letters WHERE stage = 'live') AS set_aside,
       (SELECT max(set_aside_at) FROM dead_letters WHERE stage = 'live') AS set_aside_at;
