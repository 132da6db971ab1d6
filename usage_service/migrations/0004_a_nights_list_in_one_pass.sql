-- works with: 2
-- What programs of versions 2 and 3 call has the same names and answers: they go on beside those of version 4.

-- Builds that are read together with others.
ALTER TABLE builds ADD COLUMN shared_job uuid;
