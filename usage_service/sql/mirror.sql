-- begin: the mirror of that name, which begins now unless there is one. $1 its name.
SELECT * FROM begin_mirror($1);

-- plan: the load to make, if there is one now, and what its job is named after. $1 the mirror, then limits of a load: events, an interval after the last for fewer of
-- them, partitions; then those of a day: loads, changes of partitions.
SELECT after_position, upto_position, events, first_day, last_day, (SELECT series FROM mirrors WHERE mirror = $1)
FROM plan_load($1, $2, $3, $4, $5, $6);

-- complete: a load has ended well. $1 the mirror, $2 the position it begins after, $3 its events, $4 their digest, $5 its bytes.
SELECT complete_load($1, $2, $3, $4, $5);

-- fail: what went wrong. $1 the mirror, $2 a code, $3 a message.
SELECT fail_mirror($1, $2, $3);

-- to_verify: loads whose events are to be counted. $1 the mirror, $2 and $3 positions that they begin between, $4 how many loads.
SELECT after_position, upto_position, events, first_day, last_day FROM loads_to_verify($1, $2, $3, $4);

-- unverified_since: when the first load that is not verified ended, if there is one. $1 the mirror.
SELECT min(loaded_at) FROM mirror_loads WHERE mirror = $1 AND verified_at IS NULL AND differs IS NULL;

-- verify: what was found of loads; how many of them differ from the log. $1 the mirror, $2 the positions they begin after, $3 the
-- numbers of their events, $4 their digests.
SELECT verify_loads($1, $2, $3, $4);

-- differing: loads that were found to be other than the log, which has their events yet. $1 the mirror.
SELECT after_position, upto_position, events, first_day, last_day FROM mirror_loads
WHERE mirror = $1 AND differs IS NOT NULL AND after_position >= whole_from() - 1 ORDER BY after_position;

-- repair: has a load made again, unless another is under way. $1 the mirror, $2 the position it begins after.
SELECT repair_load($1, $2);

-- states: how far each mirror is.
SELECT mirror, begins_after, position, verified_to, behind, behind_seconds, differing, failures, error, waits_for
FROM mirror_status ORDER BY mirror;

-- begins_after: the position after which a mirror begins, null where there is none of that name. $1 the mirror.
SELECT max(begins_after) FROM mirrors WHERE mirror = $1;

-- loads: those that have events after $2 up to $3. $1 the mirror.
SELECT after_position, upto_position, events, first_day, last_day FROM mirror_loads
WHERE mirror = $1 AND upto_position > $2 AND after_position < $3 AND loaded_at IS NOT NULL ORDER BY after_position;

-- forget: a mirror that is given up; how many there were. $1 the mirror.
WITH forgotten AS (DELETE FROM mirrors WHERE mirror = $1 RETURNING 1) SELECT count(*) FROM forgotten;
