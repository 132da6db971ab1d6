-- The keys of a distribution's buckets, as a variable of the connection.
SET VARIABLE {{variable}} = $1;
