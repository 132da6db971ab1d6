-- patterns: what is hidden, of the product $1 (null: of all), in the order of patterns.
SELECT pattern, nullif(product, '') AS product, reason, source, log_position FROM hidden_probes
WHERE hidden AND ($1::text IS NULL OR product IN ('', $1)) ORDER BY pattern, product;

-- revision: a number that changes whenever a pattern is added or lifted.
SELECT max(log_position) FROM hidden_probes;

-- hiding: the pattern that hides the probe $2 of the product $1, and why.
SELECT pattern, reason FROM hidden_by($1, $2) ORDER BY pattern LIMIT 1;

-- among: which of the probes $2 of the products $1 are hidden, by their place in the arrays, from 0.
SELECT (p.place - 1)::integer FROM unnest($1::text[], $2::text[]) WITH ORDINALITY p (product, probe, place)
WHERE EXISTS (SELECT FROM hidden_by(p.product, p.probe));

-- set: hides the pattern $1 of the product $2 ($3 true) or shows it again, with the reason $4, by $5. The position of the event, or
-- null when nothing changed.
SELECT set_hidden_probes($1, $2, $3, $4, $5);
