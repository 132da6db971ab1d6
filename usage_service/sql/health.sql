-- lag: how many positions each live projection is behind the end of the log, and the position after which it failed, if it did.
SELECT name, last_position() - position AS behind, failed_after FROM projections WHERE stage = 'live' ORDER BY name;

-- probe_recording: proves that events can be recorded; raises what keeps them from being so.
SELECT probe_recording();
