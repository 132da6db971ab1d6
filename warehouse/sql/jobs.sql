-- count_rows: the rows of a job's result
SELECT count(*) FROM query_table($result);
