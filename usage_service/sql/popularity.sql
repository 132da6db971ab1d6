-- listable: the probes of the catalogue that are not retired, of the product $1 or of all.
SELECT c.product, c.probe FROM catalogue c
WHERE ($1::text IS NULL OR c.product = $1) AND (c.retired_at IS NULL OR c.retired_at < c.described_at);

-- visitors: the number of distinct visitors of each of the probes $2 of the products $1 from the day $3 to $4, in their order. $5 channel or
-- null, $6 count bots.
SELECT window_visitors(s.people, s.channel, $3, $4)
       + CASE WHEN $6 THEN window_visitors(s.bots, s.channel, $3, $4) - shared_visitors(s.bots, s.people, s.channel, $3, $4) ELSE 0 END
       AS visitors
FROM (
    SELECT series_number(p.product, p.probe, false) AS people, series_number(p.product, p.probe, true) AS bots,
           coalesce($5::text, '*') AS channel, p.place
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY p (product, probe, place)
) s
ORDER BY s.place;
