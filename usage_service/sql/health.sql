-- lag: how many positions each live projection is behind the end of the log, and the position after which it failed, if it did.
SELECT name, last_position() - position AS behind, failed_after,
       (SELECT count(*) FROM dead_letters d WHERE d.projection = p.name AND d.stage = p.stage) AS set_aside
FROM projections p WHERE stage = 'live' ORDER BY name;

-- probe_recording: proves that events can be recorded; raises what keeps them from being so.
SELECT probe_recording();
