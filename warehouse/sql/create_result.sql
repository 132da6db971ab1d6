-- The rows of a job's result, kept for as long as the job is.
CREATE TABLE {{result}} AS {{query}};
