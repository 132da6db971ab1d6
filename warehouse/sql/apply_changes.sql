-- The changes of a statement of DML, made.
DELETE FROM {{table}} WHERE rowid IN (SELECT bq_row FROM bq_changes WHERE bq_action <> 'insert');
INSERT INTO {{table}} SELECT * EXCLUDE (bq_row, bq_action) FROM bq_changes WHERE bq_action <> 'delete';
