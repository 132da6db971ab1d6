-- The result of a job that has expired; there is none if the job failed.
DROP TABLE IF EXISTS {{result}};
