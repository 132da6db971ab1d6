-- lag: how many positions each live projection is behind the end of the log, and after which it cannot go on.
SELECT name, last_position() - position AS behind, failed_after FROM projections WHERE stage = 'live' ORDER BY name;
