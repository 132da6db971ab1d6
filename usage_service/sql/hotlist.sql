-- viewed_days: those of the days $1 on which any probe was requested.
SELECT coalesce(array_agg(day ORDER BY day), '{}') FROM unnest($1::date[]) AS asked (day)
WHERE EXISTS (SELECT FROM popularity_views v WHERE v.days = 1 AND v.first_day = asked.day);

-- days: the requests of people for the product $1 (null: for all) on the days $2, a row a probe: its days, which are numbered from
-- the day $3, as arrays. One pass over all visitors where there are many days, one look for each probe where there are few.
SELECT s.product, s.probe, array_agg(d.number) AS days, array_agg(d.views) AS views, array_agg(d.people) AS people,
       array_agg(d.missing) AS missing
FROM (
    SELECT v.series, v.day - $3::date AS number, v.views, v.missing, coalesce(sum(r.visitors), 0)::integer AS people
    FROM (
        SELECT first_day AS day, series, sum(found + missing)::integer AS views, sum(missing)::integer AS missing
        FROM popularity_views WHERE days = 1 AND first_day = ANY ($2::date[])
        GROUP BY first_day, series
    ) v
    -- All visitors of a single day were there last before it: these are they.
    LEFT JOIN popularity_returns r ON r.series = v.series AND r.channel = '*' AND r.day = v.day
    GROUP BY v.series, v.day, v.views, v.missing
) d
JOIN popularity_series s USING (series)
WHERE NOT s.bot AND ($1::text IS NULL OR s.product = $1)
GROUP BY s.series;

-- changed: the requests of people for each probe and day that events after the position $2, up to $3, belong to, of the product
-- $1 (null: of all).
SELECT c.day, c.product, c.probe, d.views, p.people, d.missing
FROM (
    SELECT DISTINCT e.product, e.probe, utc_day(e.occurred_at) AS day FROM event_log e
    WHERE e.position > $2 AND e.position <= $3 AND e.type = 'probe_viewed' AND ($1::text IS NULL OR e.product = $1)
) c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(v.found + v.missing), 0)::integer AS views, coalesce(sum(v.missing), 0)::integer AS missing
    FROM popularity_views v
    WHERE v.days = 1 AND v.first_day = c.day AND v.series = series_number(c.product, c.probe, false)
) d
CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.visitors), 0)::integer AS people FROM popularity_returns r
    WHERE r.series = series_number(c.product, c.probe, false) AND r.channel = '*' AND r.day = c.day
) p;

-- whole_from: the position from which on the log holds every event.
SELECT whole_from();

-- range: the first and last day with requests of people for the product $1 (null: for any).
SELECT min(v.first_day) AS first, max(v.first_day) AS last
FROM popularity_views v JOIN popularity_series s USING (series)
WHERE v.days = 1 AND ($1::text IS NULL OR s.product = $1) AND NOT s.bot;

-- catalogue: the probes of the product $1 (null: of all) as arrays, those alone that events after the position $2, up to $3, are
-- about (null: every one).
SELECT array_agg(product) AS products, array_agg(probe) AS probes, array_agg(registered_at) AS registered,
       array_agg(metric_type) AS types, array_agg(built_at) AS built,
       array_agg(CASE WHEN retired_at >= coalesce(described_at, retired_at) THEN retired_at END) AS retired,
       array_agg(EXISTS (SELECT FROM hidden_by(product, probe))) AS hidden
FROM catalogue
WHERE ($1::text IS NULL OR product = $1)
  AND ($2::bigint IS NULL OR (product, probe) IN (
      SELECT e.product, e.probe FROM event_log e
      WHERE e.position > $2 AND e.position <= $3 AND e.type IN ('probe_registered', 'probe_retired', 'probe_built')));

-- rules: the rules of operators, of the product $1 (null: of all).
SELECT product, probe, rule, reason, source, since, log_position FROM hotlist_rules
WHERE $1::text IS NULL OR product = $1 ORDER BY product, probe;

-- rules_revision: a number that changes whenever a rule does.
SELECT coalesce(max(position), 0) FROM event_log
WHERE type IN ('probe_pinned', 'probe_unpinned', 'probe_excluded', 'probe_included');

-- set_rule: sets the rule of the product $1 and probe $2 to $3 (null: lifts it) with the reason $4, by $5. The position of the
-- event, or null when nothing changed.
SELECT set_hotlist_rule($1, $2, $3, $4, $5);

-- keep: keeps the list $4 of the run $1, asked for with $2, as of the position $3; returns it, or the one the run has already.
SELECT run, asked, made_at, log_position, list::text AS list, is_new FROM keep_hotlist($1, $2, $3, $4);

-- kept: the list of a run.
SELECT run, asked, made_at, log_position, list::text AS list FROM hotlist_runs WHERE run = $1;

-- unknown: those of the probes $2 that no list of the product $1 can have, each once: of a product that any probe was registered of
-- they are neither registered nor pinned.
SELECT coalesce(array_agg(asked.probe ORDER BY asked.place), '{}')
FROM (
    SELECT probe, min(place) AS place FROM unnest($2::text[]) WITH ORDINALITY AS u (probe, place) GROUP BY probe
) asked
WHERE EXISTS (SELECT FROM catalogue c WHERE c.product = $1 AND c.registered_at IS NOT NULL)
  AND NOT EXISTS (
      SELECT FROM catalogue c WHERE c.product = $1 AND c.probe = asked.probe AND c.registered_at IS NOT NULL)
  AND NOT EXISTS (
      SELECT FROM hotlist_rules r WHERE r.product = $1 AND r.probe = asked.probe AND r.rule = 'pinned');

-- built: cancels the queued builds of the product $1, channel $2 and probes $3 that were requested before $4, when the ETL
-- had built them; how many. By $5.
SELECT cancel_builds_done_by_etl($1, $2, $3, $4, $5);
