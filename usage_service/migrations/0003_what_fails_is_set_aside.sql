-- works with: 2
-- Only additions: programs of version 2 call what is there as before.
--
-- Tables that are filled beside a projection lack what is added to the live ones: what is filled is dropped and filled anew.
SELECT drop_projection(name, stage) FROM projections WHERE stage <> 'live';
