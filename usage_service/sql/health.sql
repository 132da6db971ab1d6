-- lag: how many positions each projection is behind the end of the log.
SELECT name, last_position() - position AS behind FROM projections ORDER BY name;
