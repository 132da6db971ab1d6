-- The days of a table that a query's WHERE clause does not exclude.
SELECT day FROM (SELECT unnest($bq_days::DATE[]) AS day) WHERE {{condition}};
