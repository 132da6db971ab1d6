-- products: the products of which people viewed any probe, those with the most probes first, at most $1.
SELECT product FROM popularity_series WHERE NOT bot GROUP BY product ORDER BY count(*) DESC, product LIMIT $1;

-- claimed: claims the filling of the product $2 by the code $1 for the time $3; whether it did.
SELECT claim_policy_filling($1, $2, $3);

-- filling: how far the nights of the product $2 are filled by the code $1.
SELECT f.log_position, f.generations, f.catalogue, f.filled_at,
       (SELECT max(n.day) FROM policy_nights n WHERE n.code = f.code AND n.product = f.product) AS last_day
FROM policy_fillings f WHERE f.code = $1 AND f.product = $2;

-- changed_since: the first day that events of the product $1 after the position $2, up to $3, belong to, of those that a list is made of.
SELECT min(utc_day(occurred_at)) FROM event_log
WHERE position > $2 AND position <= $3 AND product = $1
  AND type IN ('probe_viewed', 'probe_registered', 'probe_retired', 'build_succeeded', 'build_found_no_data');

-- costs: what builds of the product $1 cost from the day $2 to the day $3, the earlier first.
SELECT day, product, channel, probe, bytes, seconds FROM build_costs
WHERE product = $1 AND day BETWEEN $2 AND $3 ORDER BY day, channel, probe;

-- store: nights of the product $2 by the code $1, which keeps its claim for the time $3; an array a column.
SELECT store_policy_nights($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- end: the log up to the position $3 is in the nights of the product $2 by the code $1, read from the generations $4 with the catalogue
-- $5; the next filling is due after $6.
SELECT end_policy_filling($1, $2, $3, $4, $5, $6);

-- summed: what each policy with each budget would have caught on each day from $3 to $4, an array; and cost, on the `priced` of them on which
-- any build had told. By the code $1 of the product $2, with the budget $5 (null: any).
SELECT policy, budget, min(day) AS first_day, max(day) AS last_day, array_agg(requests ORDER BY day) AS requests,
       array_agg(caught ORDER BY day) AS caught, count(bytes) AS priced, sum(bytes)::float8 AS bytes,
       sum(seconds) FILTER (WHERE bytes IS NOT NULL) AS seconds
FROM policy_nights
WHERE code = $1 AND product = $2 AND day BETWEEN $3 AND $4 AND ($5::integer IS NULL OR budget = $5)
GROUP BY policy, budget ORDER BY policy, budget;
