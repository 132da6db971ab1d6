-- claim: claims a channel of the products $2 and channels $3 whose rows the sink $1 lacks, for the worker $4 and a lease of $5.
SELECT sink, product, channel, attempt, series, failures FROM claim_delivery($1, $2, $3, $4, $5);

-- renew: renews the lease $5 of the channel $1, $2, $3 at its attempt $4.
SELECT renew_delivery($1, $2, $3, $4, $5);

-- plan: the builds of the batch to deliver at the attempt $4, and how many rows they have: at most $5 builds with $6 rows of $7 bytes.
SELECT builds, rows, is_begun FROM plan_delivery($1, $2, $3, $4, $5, $6, $7);

-- rows: the rows of the builds $3 of the product $1 and channel $2, as one statement sees them.
SELECT r.version, r.ping_type, r.os, r.build_id, to_char(r.build_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"+00"') AS build_date,
       r.probe AS metric, r.metric_type, r.metric_key, r.client_agg_type, r.total_users, r.histogram, r.percentiles,
       r.non_norm_histogram, r.non_norm_percentiles, r.total_sample
FROM probe_rows r
WHERE r.product = $1 AND r.channel = $2 AND r.built_by = ANY ($3::uuid[])
  AND r.probe IN (SELECT b.probe FROM builds b WHERE b.build_id = ANY ($3::uuid[]));

-- complete: ends the batch of the attempt $4, whose rows the sink has; the next one may wait for $5.
SELECT complete_delivery($1, $2, $3, $4, $5);

-- fail: ends the attempt $4 with the error code $5 and message $6, to be tried again after $7, anew or with the jobs there are ($8).
SELECT fail_delivery($1, $2, $3, $4, $5, $6, $7, $8);

-- hand_back: gives the channel back, for another worker to go on with.
SELECT hand_back_delivery($1, $2, $3, $4);
