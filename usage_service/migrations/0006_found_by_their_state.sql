-- works with: 2
-- What programs of versions 2 to 5 call has the same names and answers: they go on beside those of version 6.

-- Lists of builds that are over in some state are read by it.
CREATE INDEX builds_by_state ON builds (state, requested_at DESC, build_id) WHERE state NOT IN ('queued', 'running');
