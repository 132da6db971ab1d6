-- of_build: the statement that read the pings of the build $1, and what that read; no row where it is not known (any more).
SELECT b.build_id, b.product, b.channel, b.probe, b.bytes, b.shared_job IS NOT NULL AS is_shared, t.sql, t.parameters
FROM builds b JOIN build_statements s USING (build_id) JOIN statements t USING (digest)
WHERE b.build_id = $1;
