-- listable: the probes of the catalogue that are not retired, of the product $1 or of all.
SELECT c.product, c.probe FROM catalogue c
WHERE ($1::text IS NULL OR c.product = $1) AND (c.retired_at IS NULL OR c.retired_at < c.described_at);

-- visitors: distinct visitors of each of the probes $2 of the products $1 from the day $3 to $4, in their order. $5 channel or
-- null, $6 count bots.
SELECT CASE WHEN $5::text IS NULL AND NOT $6 THEN
    window_visitors(series_number(p.product, p.probe, false), $3, $4)
ELSE (
    SELECT count(DISTINCT v.visitor)
    FROM popularity_visitors v
    WHERE v.series IN (series_number(p.product, p.probe, false), CASE WHEN $6 THEN series_number(p.product, p.probe, true) END)
      AND v.day BETWEEN $3 AND $4 AND ($5::text IS NULL OR v.channel = $5)
) END AS visitors
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY p (product, probe, place)
ORDER BY p.place;
