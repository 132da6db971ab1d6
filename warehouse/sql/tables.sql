-- attach: the file of the tables that clients write
ATTACH ? AS tables;

-- attach_to_read: the same file, for one query of the command line
ATTACH ? AS tables (READ_ONLY);

-- datasets: the datasets that clients made
SELECT project, dataset, resource FROM tables.about.datasets;

-- tables: the tables that clients made
SELECT project, dataset, name, definition, epoch(created) FROM tables.about.tables;

-- add_dataset: a dataset, with what was said of it
INSERT INTO tables.about.datasets VALUES (?, ?, ?);

-- remove_dataset: a dataset that has no tables
DELETE FROM tables.about.datasets WHERE project = ? AND dataset = ?;

-- add_table: a table, with its definition
INSERT INTO tables.about.tables VALUES (?, ?, ?, ?, to_timestamp(?));

-- remove_table: a table that is dropped or replaced
DELETE FROM tables.about.tables WHERE project = ? AND dataset = ? AND name = ?;

-- add_job: a job, in the transaction in which it wrote
INSERT INTO tables.about.jobs VALUES (?, ?, ?, ?);

-- expire_jobs: the jobs of so long ago that nobody repeats them
DELETE FROM tables.about.jobs WHERE created < ?;

-- job: a job that wrote
SELECT record FROM tables.about.jobs WHERE project = ? AND job_id = ?;

-- jobs: a page of the jobs of a project that wrote, the newest first
SELECT job_id, record FROM tables.about.jobs
WHERE project = ? AND created BETWEEN ? AND ? AND (created, job_id) < (?, ?)
ORDER BY created DESC, job_id DESC LIMIT ?;
