-- days: what people asked for of the product $1 (null: of all) on the days $2, an array a column.
SELECT d.day, array_agg(d.product) AS products, array_agg(d.probe) AS probes, array_agg(d.views) AS views,
       array_agg(d.people) AS people, array_agg(d.missing) AS missing
FROM (
    SELECT p.day, p.product, p.probe, sum(p.found + p.missing)::integer AS views, sum(p.missing)::integer AS missing,
           (SELECT count(DISTINCT v.visitor)::integer FROM popularity_visitors v
            WHERE v.product = p.product AND v.probe = p.probe AND v.day = p.day AND NOT v.bot) AS people
    FROM popularity_days p
    WHERE p.day = ANY ($2::date[]) AND ($1::text IS NULL OR p.product = $1) AND NOT p.bot
    GROUP BY p.day, p.product, p.probe
) d
GROUP BY d.day;

-- changed: the same for each probe and day, of the product $1 (null: of all), that events after the position $2, up to $3,
-- are about.
SELECT c.day, c.product, c.probe, d.views, d.people, d.missing
FROM (
    SELECT DISTINCT e.product, e.probe, utc_day(e.occurred_at) AS day FROM event_log e
    WHERE e.position > $2 AND e.position <= $3 AND e.type = 'probe_viewed' AND ($1::text IS NULL OR e.product = $1)
) c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(p.found + p.missing), 0)::integer AS views, coalesce(sum(p.missing), 0)::integer AS missing,
           (SELECT count(DISTINCT v.visitor)::integer FROM popularity_visitors v
            WHERE v.product = c.product AND v.probe = c.probe AND v.day = c.day AND NOT v.bot) AS people
    FROM popularity_days p
    WHERE p.product = c.product AND p.day = c.day AND p.probe = c.probe AND NOT p.bot
) d;

-- range: the first and last day that people asked for the product $1 (null: for any).
SELECT min(day) AS first, max(day) AS last FROM popularity_days
WHERE ($1::text IS NULL OR product = $1) AND NOT bot;

-- catalogue: the probes of the product $1 (null: of all) as arrays; `gone` are those that are retired, or built elsewhere.
SELECT array_agg(product) AS products, array_agg(probe) AS probes, array_agg(registered_at) AS registered,
       array_agg(built_at) AS built,
       array_agg(coalesce(retired_at >= coalesce(described_at, retired_at), false) OR is_excluded(probe)) AS gone
FROM catalogue WHERE $1::text IS NULL OR product = $1;

-- rules: what operators have said, of the product $1 (null: of all).
SELECT product, probe, rule, reason, source, since, log_position FROM hotlist_rules
WHERE $1::text IS NULL OR product = $1 ORDER BY product, probe;

-- rules_mark: changes whenever they do.
SELECT coalesce(max(position), 0) FROM event_log
WHERE type IN ('probe_pinned', 'probe_unpinned', 'probe_excluded', 'probe_included');

-- set_rule: of the product $1 and probe $2, to $3 (null: lifted), because of $4, by $5. The position of the event, or
-- null where it was so already.
SELECT set_hotlist_rule($1, $2, $3, $4, $5);

-- keep: the list $4 of a run named $1, asked for with $2, as of the position $3; or what the run has already.
SELECT run, asked, made_at, log_position, list::text AS list, is_new FROM keep_hotlist($1, $2, $3, $4);

-- kept: the list of a run.
SELECT run, asked, made_at, log_position, list::text AS list FROM hotlist_runs WHERE run = $1;

-- built: ends the builds of the product $1 and channel $2 that wait to be made of the probes $3 and were asked for
-- before $4, when the ETL had built them; how many. By $5.
SELECT end_builds_by_etl($1, $2, $3, $4, $5);
