-- positions: up to which each live projection has folded the log.
SELECT name, position FROM projections WHERE stage = 'live';
